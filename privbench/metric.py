"""Metric: judges a reconstruction against what the client kept."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from privbench.component import Component
from privbench.threat import Images


@dataclass(frozen=True)
class Target:
    """What a reconstruction is compared with."""

    images: Images
    """The private pictures."""
    fed: Images
    """The network's input: patches moved, if the defense moves them."""
    moved: bool
    """Whether the defense moves anything at all."""
    patch: int
    """Side of the victim's patches, in pixels."""
    mask: Bool[Tensor, "b n"] | None = None
    """Patches that the defense's random draw treated; None without a draw."""

    @property
    def split(self) -> bool:
        """Whether each image has patches that were treated and others that were not."""
        return self.mask is not None and bool((self.mask.any(1) & ~self.mask.all(1)).all())


class Metric(Component, ABC):
    """One number per image, from pictures in [0, 1]."""

    shelf: ClassVar[str] = "metrics"
    higher_is_better: ClassVar[bool]
    """Better for the attacker: a higher score leaks more."""
    unit: ClassVar[str] = ""
    cap: ClassVar[float | None] = None
    """Scores at the cap are exact pictures; they are counted."""
    weights_sha256: ClassVar[str] = ""
    """Of the network that the score comes from; tables must not mix them."""

    def applies(self, target: Target) -> bool:
        """Whether the score means anything for this target."""
        return True

    @abstractmethod
    def score(self, found: Images, target: Target) -> Float[Tensor, " b"]:
        """Score each image of a batch."""
