"""Everything an attack may see."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from jaxtyping import Int
from torch import Tensor

from privbench.defense import Defense
from privbench.threat import Draw, Images, Knowledge, Protocol, Update
from privbench.vit import ViT


@dataclass(frozen=True)
class PublicModel:
    """The victim as the server knows it: weights and the defense's procedure, not its dice."""

    vit: ViT
    defense: Defense

    def gradient(
        self,
        images: Images,
        labels: Tensor,
        draw: Draw | None = None,
        *,
        of: Iterable[str] | None = None,
        differentiable: bool = True,
    ) -> dict[str, Tensor]:
        """Gradient of a client's cross-entropy on these pictures, by parameter name.

        A penalty of the defense depends on no picture; `penalty_gradient` gives its share.
        """
        return self.defense.gradient(
            self.vit, images, labels, draw, differentiable=differentiable, of=of
        )

    def penalty_gradient(self, draw: Draw | None = None) -> dict[str, Tensor]:
        """Gradient that the defense adds whatever the pictures are; empty without any."""
        return self.defense.penalty_gradient(self.vit, draw)


@dataclass(frozen=True)
class Observation:
    """Everything an attack may see; what is not granted is None or empty."""

    model: PublicModel
    update: Update
    shape: tuple[int, int, int, int]
    """Of the private batch: b, 3, h, w."""
    knows: frozenset[Knowledge] = frozenset()
    """What the threat model grants."""
    labels: Int[Tensor, " b"] | None = None
    protocol: Protocol = field(default_factory=Protocol)
    """How the client computed its update."""
    later: tuple[Update, ...] = ()
    """Updates of further rounds on the same batch; each from other dice."""
