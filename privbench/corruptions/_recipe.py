"""How a corruption is declared: a function, and its five parameters for each size of picture."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Recipe = Literal["imagenet", "cifar10"]
"""Whose parameters: those of ImageNet-C for 224 px, those of CIFAR-10-C for 32 px."""
Pixels = NDArray[np.uint8]
"""A picture as decoded, (h, w, 3), 0 to 255."""
Levels = NDArray[Any]
"""A corrupted picture, (h, w, 3), on the scale of pixels, not yet clipped nor cut to integers."""

C = TypeVar("C")
Five = tuple[C, C, C, C, C]


@dataclass(frozen=True)
class Corruption:
    """A formula, and what it is given at severities 1 to 5."""

    formula: Callable[[Pixels, Generator, Any], Levels]
    imagenet: Five[Any]
    cifar10: Five[Any]

    def __call__(self, pixels: Pixels, severity: int, rng: Generator, recipe: Recipe) -> Pixels:
        """Return the corrupted picture; fractions of a level are cut off, as the authors did."""
        parameters = (self.imagenet if recipe == "imagenet" else self.cifar10)[severity - 1]
        levels = self.formula(pixels, rng, parameters)
        return levels if levels.dtype == np.uint8 else np.clip(levels, 0, 255).astype(np.uint8)


MADE: dict[str, Corruption] = {}
"""Every corruption, by its name."""


def corruption(
    *, imagenet: Five[C], cifar10: Five[C]
) -> Callable[[Callable[[Pixels, Generator, C], Levels]], Callable[[Pixels, Generator, C], Levels]]:
    """Declare a formula as the corruption of its own name."""

    def declare(
        formula: Callable[[Pixels, Generator, C], Levels],
    ) -> Callable[[Pixels, Generator, C], Levels]:
        MADE[formula.__name__] = Corruption(formula, imagenet, cifar10)
        return formula

    return declare
