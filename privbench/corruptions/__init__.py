"""Common corruptions of pictures: the 15 of ImageNet-C and CIFAR-10-C, and 4 for validation.

From the formulas and parameters of Hendrycks and Dietterich (arXiv:1903.12261) and the scripts that
made the released files (github.com/hendrycks/robustness); numpy, scipy, scikit-image and Pillow.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from privbench.corruption_names import NAMES, SEVERITIES
from privbench.corruptions import blur, digital, noise, weather
from privbench.corruptions._recipe import MADE, Pixels, Recipe
from privbench.errors import BadSetting, UnknownName

__all__ = ["Recipe", "blur", "corrupt", "corrupt_all", "digital", "noise", "weather"]

CHUNK = 16
"""Pictures that a process is given at once."""
Job = tuple[NDArray[np.uint8], str, int, Sequence[int], Recipe, int | None]


def corrupt(pixels: Pixels, name: str, severity: int, rng: Generator, recipe: Recipe) -> Pixels:
    """Corrupt one picture.

    pixels: uint8, (h, w, 3), square; 224 px for the recipe "imagenet", 32 px for "cifar10".
    name: one of the 19. severity: 1 to 5.
    Returns another array of the same shape. Fractions of a level are cut off, as by the authors.
    Raises UnknownName and BadSetting.
    """
    UnknownName.refuse("corruption", [name], NAMES)
    if severity not in SEVERITIES:
        raise BadSetting(f"Severities are 1 to 5; {severity} is not one of them.")
    return MADE[name](pixels, severity, rng, recipe)


def corrupt_all(
    batch: NDArray[np.uint8],
    name: str,
    severity: int,
    seeds: Sequence[int],
    recipe: Recipe,
    *,
    quality: int | None = None,
    workers: int = 0,
) -> NDArray[np.uint8]:
    """Corrupt many pictures, (b, h, w, 3), each from a seed of its own.

    quality: of the JPEG file that each result then becomes, as the files of ImageNet-C were.
    workers: processes that share the work; 0 for none but this one. Results do not depend on it.
    """
    jobs: list[Job] = [
        (batch[at : at + CHUNK], name, severity, seeds[at : at + CHUNK], recipe, quality)
        for at in range(0, len(batch), CHUNK)
    ]
    made = _pool(workers).map(_chunk, jobs) if workers else map(_chunk, jobs)
    return np.concatenate(list(made)) if jobs else batch.copy()


def _chunk(job: Job) -> NDArray[np.uint8]:
    batch, name, severity, seeds, recipe, quality = job
    made = [
        corrupt(pixels, name, severity, np.random.default_rng(seed), recipe)
        for pixels, seed in zip(batch, seeds, strict=True)
    ]
    if quality is not None:
        made = [digital.as_jpeg(pixels, quality) for pixels in made]
    return np.stack(made)


@cache
def _pool(workers: int) -> ProcessPoolExecutor:
    # Never forked: the parent has threads of its own.
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
