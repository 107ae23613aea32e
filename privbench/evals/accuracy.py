"""Accuracy on pictures as they are."""

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Generator, Tensor

from privbench.classifier import Classifier
from privbench.evaluation import Condition, Evaluation
from privbench.kind import Kind
from privbench.threat import Images

FEW = 5
"""Answers among which the label may be, of all classes: the usual top five."""


class Accuracy(Evaluation):
    """Top-1 and top-5 accuracy, nothing moved or masked."""

    standard: ClassVar[bool] = True
    kinds: ClassVar[Mapping[str, Kind]] = {"top*": Kind.SHARE}

    def measure(
        self,
        model: Classifier,
        images: Images,
        labels: Int[Tensor, " b"],
        condition: Condition,
        rngs: list[Generator],
    ) -> dict[str, Float[Tensor, " b"]]:
        """Return whether the label is the first answer, and among the first five."""
        logits = model.logits(images)
        order = logits.argsort(dim=1, descending=True, stable=True)
        right = order[:, :FEW] == labels[:, None]
        found = {"top1": right[:, 0].float()}
        if logits.shape[1] > FEW:
            found["top5"] = right.any(1).float()
        return found
