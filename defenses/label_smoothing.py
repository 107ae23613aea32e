"""Label smoothing: a share of each label goes to all classes (Szegedy et al., CVPR 2016)."""

from typing import Annotated, ClassVar

from pydantic import Field

from privbench.defense import Defense, Labels
from privbench.threat import Images, Randomness
from privbench.vit import ViT


class LabelSmoothing(Defense):
    """Label smoothing: a share of each label is spread evenly over all classes."""

    paper: ClassVar[str] = "arXiv:1512.00567"
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls")
    share: Annotated[float, Field(ge=0, lt=1)] = 0.1

    def prepare(
        self, vit: ViT, images: Images, labels: Labels, randomness: Randomness | None
    ) -> tuple[Images, Labels]:
        """Leave the pictures, and spread the labels."""
        return images, (1 - self.share) * labels + self.share / labels.shape[1]
