"""Accuracy on pictures whose patches were shuffled, as in Masked Jigsaw Puzzle's figure."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from jaxtyping import Float, Int
from pydantic import Field
from torch import Generator, Tensor

from privbench.block_masks import blockwise_draw, moved
from privbench.classifier import Classifier
from privbench.evaluation import Condition, Evaluation
from privbench.kind import Kind
from privbench.threat import Images

Ratio = Annotated[float, Field(gt=0, le=1)]


class Shuffled(Evaluation):
    """Top-1 accuracy with a block-wise share of the patches shuffled, by ratio."""

    paper: ClassVar[str] = "arXiv:2205.12551"
    standard: ClassVar[bool] = True
    of_victims: ClassVar[bool] = True
    random: ClassVar[bool] = True
    kinds: ClassVar[Mapping[str, Kind]] = {"shuffled_*": Kind.SHARE, "treated_*": Kind.MEAN}
    passes: ClassVar[tuple[str, ...]] = ("ratios",)
    ratios: Annotated[tuple[Ratio, ...], Field(min_length=1)] = (0.1, 0.3, 0.5, 0.7, 0.9)
    """Nominal shares of the patches."""

    def conditions(self) -> list[Condition]:
        """Return a pass for each ratio."""
        return [{"ratio": ratio} for ratio in self.ratios]

    def measure(
        self,
        model: Classifier,
        images: Images,
        labels: Int[Tensor, " b"],
        condition: Condition,
        rngs: list[Generator],
    ) -> dict[str, Float[Tensor, " b"]]:
        """Return whether the first answer is right, and the share of patches really treated.

        The positions are the victim's own rule: an unknown embedding on the treated patches
        where it has one, the ordinary table where it has none.
        """
        assert model.public is not None
        vit, ratio = model.public.vit, float(condition["ratio"])
        draw = blockwise_draw(vit.grid, ratio, rngs)
        positions = model.public.defense.positions(vit, draw)
        logits = model.among(vit(moved(images, vit.patch, draw), positions))
        return {
            f"shuffled_{ratio:g}": (logits.argmax(1) == labels).float(),
            f"treated_{ratio:g}": draw.mask.float().mean(1),
        }
