"""Fixed two-dimensional sine-cosine position embeddings."""

from typing import ClassVar

import torch
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from torch import Generator

from privbench.defense import Defense
from privbench.errors import BadSetting
from privbench.vit import ViT


class SinCos(Defense):
    """Fixed 2-D sine-cosine position embeddings: no position gradient is shared."""

    paper: ClassVar[str] = "arXiv:2104.02057"
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "span", "peel")
    places: ClassVar[bool] = True

    def equip(self, vit: ViT, rng: Generator) -> None:
        """Replace the patch rows of the table; the prefix rows are zero."""
        if (d := vit.positions.shape[-1]) % 4:
            raise BadSetting(f"sincos needs a width that four divides; embed_dim is {d}.")
        rows = build_sincos2d_pos_embed([vit.grid, vit.grid], dim=d)
        prefix = torch.zeros(vit.prefix, d)
        vit.freeze_positions(torch.cat([prefix, rows])[None])
