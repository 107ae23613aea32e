"""Masked Jigsaw Puzzle position embeddings (Ren et al., CVPR 2023, arXiv:2205.12551).

The input layer of the paper. Its localization loss, which ties the unmasked embeddings to their
places, concerns weights and mask alone and is not part of this defense.
"""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor, nn

from privbench.defenses.shuffle import Shuffle
from privbench.threat import Draw
from privbench.vit import ViT


class MaskedJigsaw(Shuffle):
    """Masked Jigsaw Puzzle: masked patches change places and share one unknown embedding."""

    UNKNOWN: ClassVar[str] = "unknown_embed"
    reveals: ClassVar[frozenset[str]] = frozenset({"mask"})
    init_std: Annotated[float, Field(gt=0)] = 0.02
    """Of the unknown embedding; the released code leaves it at 1 without saying so."""

    def equip(self, vit: ViT, rng: Generator) -> None:
        """Add the unknown embedding; the class token's row is never replaced by it."""
        unknown = self.init_std * torch.randn(vit.positions.shape[-1], generator=rng)
        vit.register_parameter(self.UNKNOWN, nn.Parameter(unknown))

    def positions(self, vit: ViT, draw: Draw | None) -> Float[Tensor, "_ k d"]:
        """Put the unknown embedding on the masked patches; without dice the table is ordinary."""
        if draw is None:
            return vit.positions
        mask = draw.mask.to(vit.positions.device)
        prefix = mask.new_zeros(len(mask), vit.prefix)
        masked = torch.cat([prefix, mask], dim=1)[..., None]  # b k 1
        return torch.where(masked, vit.get_parameter(self.UNKNOWN), vit.positions)
