"""Linear probing: the head alone is trained and shared (Kumar et al., ICLR 2022)."""

from typing import ClassVar

from torch import Generator

from privbench.defense import Defense
from privbench.defenses._parameters import head
from privbench.vit import ViT


class HeadOnly(Defense):
    """Only the head is trained and shared: the backbone stays as the server knows it."""

    paper: ClassVar[str] = "arXiv:2202.10054"
    selects: ClassVar[bool] = True
    answered_by: ClassVar[tuple[str, ...]] = ("decoder", "map")

    def equip(self, vit: ViT, rng: Generator) -> None:
        """Stop training what stands before the head."""
        vit.train_only(head(vit))
