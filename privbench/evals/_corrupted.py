"""What the four tests under common corruptions share (arXiv:1903.12261)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from jaxtyping import Float, Int
from pydantic import Field
from torch import Generator, Tensor

from privbench.classifier import Classifier
from privbench.corruption_names import COUNTED, SEVERITIES
from privbench.evaluation import Condition, Evaluation
from privbench.kind import Kind
from privbench.threat import Images

CLEAN = "none"
Severity = Annotated[int, Field(ge=1, le=5)]
Recipe = Literal["imagenet", "cifar10"]


class Corrupted(Evaluation):
    """A pass for each corruption and severity, and one without corruption to compare with."""

    paper: ClassVar[str] = "arXiv:1903.12261"
    recipe: ClassVar[Recipe]
    kinds: ClassVar[Mapping[str, Kind]] = {"wrong": Kind.SHARE}
    passes: ClassVar[tuple[str, ...]] = ("corruptions", "severities")
    corruptions: Annotated[tuple[str, ...], Field(min_length=1)] = COUNTED
    """The fifteen that count; four more are speckle_noise, gaussian_blur, spatter, saturate."""
    severities: Annotated[tuple[Severity, ...], Field(min_length=1)] = SEVERITIES

    def conditions(self) -> list[Condition]:
        """Return a pass for each cell; severity 0 is none."""
        cells = [(c, s) for c in self.corruptions for s in self.severities]
        return [
            {"recipe": self.recipe, "corruption": corruption, "severity": severity}
            for corruption, severity in [(CLEAN, 0), *cells]
        ]

    def measure(
        self,
        model: Classifier,
        images: Images,
        labels: Int[Tensor, " b"],
        condition: Condition,
        rngs: list[Generator],
    ) -> dict[str, Float[Tensor, " b"]]:
        """Return whether the first answer is wrong."""
        return {"wrong": (model.logits(images).argmax(1) != labels).float()}
