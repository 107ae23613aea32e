"""Defense: named hooks; override only what the defense does."""

from collections.abc import Iterable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from privbench.component import Component
from privbench.errors import BadSetting
from privbench.threat import Draw, Images, Update
from privbench.vit import ViT


class Defense(Component):
    """Changes what a client's update gives away."""

    shelf: ClassVar[str] = "defenses"
    reveals: ClassVar[frozenset[str]] = frozenset()
    """Side information that anybody can read off the update, e.g. the mask."""

    def equip(self, vit: ViT, rng: Generator) -> None:
        """Change the architecture, before training; new weights come from rng."""

    def draw(self, vit: ViT, batch: int, rng: Generator) -> Draw | None:
        """Throw this step's dice."""
        return None

    def feed(self, vit: ViT, images: Images, draw: Draw | None) -> Images:
        """Move pixels; what this returns enters the network."""
        return images

    def positions(self, vit: ViT, draw: Draw | None) -> Float[Tensor, "_ k d"]:
        """Position table of this step: one, or one per image."""
        return vit.positions

    def withholds(self, names: Iterable[str]) -> frozenset[str]:
        """Names of trained parameters that are not shared."""
        return frozenset()

    def protect(self, update: Update, rng: Generator) -> Update:
        """Change what is about to be shared."""
        return update

    def disclosed(self) -> frozenset[str]:
        """Side information that this defense, with these settings, reveals."""
        return self.reveals

    def forward(self, vit: ViT, images: Images, draw: Draw | None) -> Float[Tensor, "b classes"]:
        """Logits, given the dice; the same code in training, at the client, in an attack."""
        return vit(self.feed(vit, images, draw), self.positions(vit, draw))

    def penalty(
        self, vit: ViT, draw: Draw | None, progress: float = 1.0
    ) -> Float[Tensor, ""] | None:
        """Term of the loss that weights and dice alone decide, at a share of the training."""
        return None

    def penalty_gradient(self, vit: ViT, draw: Draw | None) -> dict[str, Tensor]:
        """Gradient of that term by parameter name; empty without one."""
        if (term := self.penalty(vit, draw)) is None:
            return {}
        trained = vit.trained()
        found = torch.autograd.grad(term, list(trained.values()), materialize_grads=True)
        return dict(zip(trained, found, strict=True))

    def gradient(
        self,
        vit: ViT,
        images: Images,
        labels: Tensor,
        draw: Draw | None,
        *,
        differentiable: bool = False,
        of: Iterable[str] | None = None,
    ) -> dict[str, Tensor]:
        """Gradient of the mean cross-entropy by parameter name; labels are indices or shares.

        Of all trained parameters, or of those named; differentiable in the images if asked. The
        penalty is not in it: no picture changes that part.
        """
        trained = vit.trained()
        named = trained if of is None else {name: trained[name] for name in of}
        loss = cross_entropy(self.forward(vit, images, draw), labels)
        found = torch.autograd.grad(
            loss, list(named.values()), create_graph=differentiable, materialize_grads=True
        )
        return dict(zip(named, found, strict=True))


SHAPING = ("equip", "draw", "feed", "positions", "penalty")


class Stack(Defense):
    """Several defenses in a row; at most one of them shapes the forward pass."""

    parts: tuple[Defense, ...]

    def __post_init__(self) -> None:
        """Refuse two positional schemes at once."""
        shaping = [
            type(part).__module__.rpartition(".")[2]
            for part in self.parts
            if any(getattr(type(part), hook) is not getattr(Defense, hook) for hook in SHAPING)
        ]
        if len(shaping) > 1:
            raise BadSetting(
                f"{' and '.join(shaping)} both change the forward pass, and a client runs only one "
                "such scheme. Choose a victim without one, or another defense."
            )

    def equip(self, vit: ViT, rng: Generator) -> None:
        """Let each part change the architecture."""
        for part in self.parts:
            part.equip(vit, rng)

    def draw(self, vit: ViT, batch: int, rng: Generator) -> Draw | None:
        """Return the dice of the one part that throws any."""
        drawn = (part.draw(vit, batch, rng) for part in self.parts)
        return next((draw for draw in drawn if draw is not None), None)

    def feed(self, vit: ViT, images: Images, draw: Draw | None) -> Images:
        """Move pixels in turn."""
        for part in self.parts:
            images = part.feed(vit, images, draw)
        return images

    def positions(self, vit: ViT, draw: Draw | None) -> Float[Tensor, "_ k d"]:
        """Return the table of the one part that changes it."""
        for part in self.parts:
            if type(part).positions is not Defense.positions:
                return part.positions(vit, draw)
        return vit.positions

    def penalty(
        self, vit: ViT, draw: Draw | None, progress: float = 1.0
    ) -> Float[Tensor, ""] | None:
        """Return the sum of the parts' terms."""
        terms = [part.penalty(vit, draw, progress) for part in self.parts]
        found = [term for term in terms if term is not None]
        return torch.stack(found).sum() if found else None

    def withholds(self, names: Iterable[str]) -> frozenset[str]:
        """Return all that any part withholds."""
        known = list(names)
        return frozenset().union(*(part.withholds(known) for part in self.parts))

    def protect(self, update: Update, rng: Generator) -> Update:
        """Change the update in turn."""
        for part in self.parts:
            update = part.protect(update, rng)
        return update

    def disclosed(self) -> frozenset[str]:
        """Return all that any part reveals."""
        return frozenset().union(*(part.disclosed() for part in self.parts))
