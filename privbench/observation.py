"""Everything an attack may see."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from jaxtyping import Float, Int
from torch import Generator, Tensor

from privbench.client_step import ClientStep
from privbench.defense import Defense
from privbench.threat import Images, Knowledge, Protocol, Randomness, Update
from privbench.vit import ViT


@dataclass(frozen=True)
class PublicModel:
    """The victim as the server knows it: weights and the defense's procedure, not its draws."""

    vit: ViT
    defense: Defense

    def gradient(
        self,
        images: Images,
        labels: Tensor,
        draw: Randomness | None = None,
        *,
        of: Iterable[str] | None = None,
        differentiable: bool = True,
    ) -> dict[str, Tensor]:
        """Gradient of a client's mean loss on these pictures, by parameter name.

        Before the defense changes gradients. A penalty of the defense depends on no picture;
        `penalty_gradient` gives its share.
        """
        step = ClientStep(self.vit, self.defense)
        return step.gradient(images, labels, draw, of=of, differentiable=differentiable)

    def logits(self, images: Images, draw: Randomness | None = None) -> Float[Tensor, "b classes"]:
        """Answer to pictures; without a draw, as in evaluation."""
        return self.defense.logits(self.vit, images, draw)

    def simulate(
        self, batch: int, rng: Generator, known: Randomness | None = None
    ) -> Randomness | None:
        """Return what to run a client's step with: what is known of its draw, the rest drawn anew.

        None where the defense draws nothing that a server could stand in for.
        """
        return self.defense.simulate(self.vit, batch, rng, known)

    def penalty_gradient(self, draw: Randomness | None = None) -> dict[str, Tensor]:
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
    """Updates of further rounds on the same batch; each from another draw."""
