"""What the tests on pictures of another kind share: accuracy, and what confidence is worth."""

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Generator, Tensor

from privbench.classifier import Classifier
from privbench.evaluation import Condition, Evaluation, Source
from privbench.kind import Kind
from privbench.threat import Images


class Shifted(Evaluation):
    """A pass on those pictures, and one on validation pictures of the same classes."""

    kinds: ClassVar[Mapping[str, Kind]] = {"right": Kind.SHARE, "confidence": Kind.MEAN}
    part: ClassVar[str] = "all"
    """Of the validation pictures: those of the same classes."""

    def conditions(self) -> list[Condition]:
        """Return two passes."""
        return [{"pictures": "shifted"}, {"pictures": "clean"}]

    def source(self, condition: Condition) -> Source | None:
        """Return the released folder, or the validation pictures where the user names them."""
        if condition["pictures"] == "clean":
            return Source("imagenet", {"part": self.part}, optional=True)
        return Source(self.brings)

    def measure(
        self,
        model: Classifier,
        images: Images,
        labels: Int[Tensor, " b"],
        condition: Condition,
        rngs: list[Generator],
    ) -> dict[str, Float[Tensor, " b"]]:
        """Return whether the first answer is right, and the largest softmax output."""
        confidence, answer = model.logits(images).softmax(1).max(1)
        return {"right": (answer == labels).float(), "confidence": confidence}
