"""Nothing in front of a block is shared, as in transfer learning (Yosinski et al., 2014)."""

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Generator

from privbench.defense import Defense
from privbench.defenses._parameters import before
from privbench.errors import BadSetting
from privbench.vit import ViT


class WithholdFirst(Defense):
    """Stem, position table and first blocks are not shared, and not trained unless asked."""

    paper: ClassVar[str] = "arXiv:1411.1792"
    selects: ClassVar[bool] = True
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "gradinv")
    blocks: Annotated[int, Field(ge=0)] = 1
    """How many blocks are withheld; with none it is the stem, the table and the tokens alone."""
    keep: Literal["frozen", "local"] = "frozen"
    """Whether what is withheld stays as it is, or is trained by each client for itself."""

    def equip(self, vit: ViT, rng: Generator) -> None:
        """Stop training what is withheld; raises BadSetting for more blocks than there are."""
        if self.blocks > vit.depth:
            raise BadSetting(
                f"withhold_first keeps {self.blocks} blocks and the model has {vit.depth}. Set "
                f"defense.blocks={vit.depth} or less."
            )
        if self.keep == "frozen":
            vit.train_only(vit.trained().keys() - before(vit.trained(), self.blocks))

    def withholds(self, names: Iterable[str]) -> frozenset[str]:
        """Return what each client trains for itself."""
        return before(names, self.blocks) if self.keep == "local" else frozenset()
