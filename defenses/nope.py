"""No position embeddings."""

from typing import ClassVar

import torch
from torch import Generator

from privbench.defense import Defense
from privbench.vit import ViT


class NoPositions(Defense):
    """No position embeddings: an all-zero table without gradient; the class token stays."""

    answered_by: ClassVar[tuple[str, ...]] = ("auto", "span", "peel")
    places: ClassVar[bool] = True

    def equip(self, vit: ViT, rng: Generator) -> None:
        """Replace the table by zeros."""
        vit.freeze_positions(torch.zeros_like(vit.positions))
