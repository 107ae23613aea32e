"""Evaluation: what a model is worth to those who use it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Generator, Tensor

from privbench.classifier import Classifier
from privbench.component import Component
from privbench.kind import Kind
from privbench.threat import Images, Scalar

Condition = Mapping[str, Scalar]
"""What sets one pass over the pictures apart from the others, such as a ratio."""


@dataclass(frozen=True)
class Source:
    """Pictures that an evaluation brings itself, not those that the user asks about."""

    dataset: str
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    outside: bool = False
    """Whether no class of the model is in them, so that their labels mean nothing."""
    optional: bool = False
    """Whether the pass is left out where the user names no folder for these pictures."""


class Evaluation(Component, ABC):
    """Passes over labelled pictures, each giving some numbers for every picture."""

    shelf: ClassVar[str] = "evals"
    passes: ClassVar[tuple[str, ...]] = ()
    """Settings that choose passes, or how fast they are: they decide nothing about any one."""
    standard: ClassVar[bool] = False
    """Whether it runs where the user asks for none by name."""
    suits: ClassVar[str] = ""
    """The data set that it belongs to, by name; else it goes with any."""
    brings: ClassVar[str] = ""
    """The data set of its own that it must be given a folder for."""
    of_victims: ClassVar[bool] = False
    """Whether it needs patches and position embeddings, which other models have not."""
    random: ClassVar[bool] = False
    """Whether it draws anything at random, so that a seed decides about its numbers."""
    kinds: ClassVar[Mapping[str, Kind]]
    """What its columns are, by name or by a pattern such as shuffled_*."""

    def conditions(self) -> list[Condition]:
        """Return the passes; each has a record of its own."""
        return [{}]

    def source(self, condition: Condition) -> Source | None:
        """Return the pictures of a pass; None for those that the user asks about."""
        return None

    def prepare(self, images: Images, condition: Condition, rngs: list[Generator]) -> Images:
        """Return what all models are shown; it is made once for all of them."""
        return images

    @abstractmethod
    def measure(
        self,
        model: Classifier,
        images: Images,
        labels: Int[Tensor, " b"],
        condition: Condition,
        rngs: list[Generator],
    ) -> dict[str, Float[Tensor, " b"]]:
        """Return numbers by column of the table; NaN where a picture does not count.

        Each column has its kind in `kinds`; a share holds zeros and ones. Each picture has a
        generator of its own, so that no batch size changes an answer; `prepare` gets others.
        """
