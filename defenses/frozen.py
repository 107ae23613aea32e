"""Learned position embeddings that are no longer trained."""

from typing import ClassVar

from torch import Generator

from privbench.defense import Defense
from privbench.vit import ViT


class Frozen(Defense):
    """Learned position embeddings, not trained: no position gradient, the table is public."""

    paper: ClassVar[str] = "privbench"
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_watermark", "span")

    def equip(self, vit: ViT, rng: Generator) -> None:
        """Stop training the table."""
        vit.require_positions("this defense stops its training")
        vit.positions.requires_grad_(False)
