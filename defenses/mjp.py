"""Masked Jigsaw Puzzle position embeddings (Ren et al., CVPR 2023, arXiv:2205.12551)."""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor, nn

from privbench.block_masks import still
from privbench.defenses._localization import Head, Target, head, loss, weight
from privbench.defenses.shuffle import Shuffle
from privbench.threat import Draw, Randomness
from privbench.vit import ViT


class MaskedJigsaw(Shuffle):
    """Masked Jigsaw Puzzle: masked patches change places and share one unknown embedding."""

    answered_by: ClassVar[tuple[str, ...]] = ("auto", "span", "rounds", "map")
    UNKNOWN: ClassVar[str] = "unknown_embed"
    LOCALIZER: ClassVar[str] = "localizer"
    reveals: ClassVar[frozenset[str]] = frozenset({"mask"})
    init_std: Annotated[float, Field(gt=0)] = 0.02
    """Of the unknown embedding; the released code leaves it at 1 without saying so."""
    move: bool = True
    """Whether masked patches change places; if not, they only lose their embeddings."""
    localization: Head = "nonlinear"
    """Head of the dense absolute localization loss; none for no such loss."""
    targets: Target = "grid"
    """Places in grid units, as released, or as a share of the grid's side."""
    localization_weight: Annotated[float, Field(ge=0)] = 0.01
    """Top of its schedule, at 20/300 of the training."""
    localization_end: Annotated[float, Field(ge=0)] = 0.005
    """End of its schedule; also what a client that shares an update adds."""

    def equip(self, vit: ViT, rng: Generator) -> None:
        """Add the unknown embedding and the localization head; the class token has no part."""
        vit.require_positions("this scheme replaces rows of one")
        width = vit.width
        unknown = self.init_std * torch.randn(1, width, generator=rng)
        vit.register_parameter(self.UNKNOWN, nn.Parameter(unknown))
        if (regressor := head(self.localization, width, rng)) is not None:
            vit.add_module(self.LOCALIZER, regressor)

    def draw(self, vit: ViT, batch: int, rng: Generator) -> Draw:
        """Draw the mask, then the permutation inside it."""
        draw = super().draw(vit, batch, rng)
        return draw if self.move else still(draw.mask)

    def positions(self, vit: ViT, randomness: Randomness | None) -> Float[Tensor, "_ k d"]:
        """Put the unknown embedding on the masked patches; without any the table is ordinary."""
        if not isinstance(randomness, Draw):
            return vit.positions
        mask = randomness.mask.to(vit.positions.device)
        prefix = mask.new_zeros(len(mask), vit.prefix)
        masked = torch.cat([prefix, mask], dim=1)[..., None]  # b k 1
        return torch.where(masked, getattr(vit, self.UNKNOWN), vit.positions)

    def penalty(
        self, vit: ViT, randomness: Randomness | None, progress: float = 1.0
    ) -> Float[Tensor, ""] | None:
        """Weigh the localization loss of the unmasked embeddings, on every step of a training."""
        if self.localization == "none":
            return None
        regressor = None if self.localization == "pca" else vit.get_submodule(self.LOCALIZER)
        masked = randomness.mask.to(vit.positions.device) if isinstance(randomness, Draw) else None
        error = loss(vit.positions[0, vit.prefix :], masked, regressor, self.targets)
        share = weight(progress, self.localization_weight, self.localization_end)
        return None if error is None else share * error
