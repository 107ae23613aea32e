"""Evaluation: what a victim is worth to those who use it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Generator, Tensor

from privbench.component import Component
from privbench.observation import PublicModel
from privbench.threat import Images, Scalar

Condition = Mapping[str, Scalar]
"""What sets one pass over the pictures apart from the others, such as a ratio."""


class Evaluation(Component, ABC):
    """Passes over labelled pictures, each giving some numbers for every picture."""

    shelf: ClassVar[str] = "evals"
    passes: ClassVar[str] = ""
    """The setting that lists the passes: it decides nothing about any one of them."""

    def conditions(self) -> list[Condition]:
        """Return the passes; each has a record of its own."""
        return [{}]

    @abstractmethod
    def measure(
        self,
        model: PublicModel,
        images: Images,
        labels: Int[Tensor, " b"],
        condition: Condition,
        dice: list[Generator],
    ) -> dict[str, Float[Tensor, " b"]]:
        """Return numbers by column of the table; NaN where a picture does not count.

        A column of zeros and ones is a share and gets Wilson's interval, any other a bootstrap
        interval. The dice are one generator per picture, so that no batch size changes an answer.
        """
