"""BitFit: only biases and the head are trained (Ben Zaken et al., ACL 2022, arXiv:2106.10199)."""

from typing import ClassVar

from torch import Generator

from privbench.defense import Defense
from privbench.defenses._parameters import head
from privbench.vit import ViT


class BitFit(Defense):
    """Only biases and the head are trained and shared."""

    paper: ClassVar[str] = "arXiv:2106.10199"
    selects: ClassVar[bool] = True
    answered_by: ClassVar[tuple[str, ...]] = ("decoder", "map")
    head: bool = True
    """Whether the head's weights are trained too, as in the paper; its bias is, in any case."""

    def equip(self, vit: ViT, rng: Generator) -> None:
        """Stop training weights, tables and tokens."""
        biases = frozenset(name for name in vit.trained() if name.endswith(".bias"))
        vit.train_only(biases | head(vit) if self.head else biases)
