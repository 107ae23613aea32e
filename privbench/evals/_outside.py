"""What the tests for pictures of unknown classes share."""

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Generator, Tensor

from privbench.classifier import Classifier
from privbench.evaluation import Condition, Evaluation, Source
from privbench.kind import Kind
from privbench.threat import Images

INSIDE, OUTSIDE = "inside", "outside"


class Outside(Evaluation):
    """A pass on pictures of known classes and one on others; a good score tells them apart."""

    kinds: ClassVar[Mapping[str, Kind]] = {"outsideness": Kind.MEAN}

    def conditions(self) -> list[Condition]:
        """Return the two passes."""
        return [{"side": INSIDE}, {"side": OUTSIDE}]

    def source(self, condition: Condition) -> Source | None:
        """Return the outside set; inside are the pictures that the user asks about."""
        return Source(self.brings, outside=True) if condition["side"] == OUTSIDE else None

    def measure(
        self,
        model: Classifier,
        images: Images,
        labels: Int[Tensor, " b"],
        condition: Condition,
        rngs: list[Generator],
    ) -> dict[str, Float[Tensor, " b"]]:
        """Return the score for "outside": minus the largest softmax output (arXiv:1610.02136)."""
        return {"outsideness": -model.logits(images).softmax(1).amax(1)}
