"""ImageNet-O: pictures of classes that ImageNet-1k lacks."""

from typing import ClassVar

from privbench.evals._outside import INSIDE, Outside
from privbench.evaluation import Condition, Source


class ImageNetO(Outside):
    """Detection of unknown classes by softmax over the 200 that they are confused with."""

    paper: ClassVar[str] = "arXiv:1907.07174"
    brings: ClassVar[str] = "imagenet_o"

    def source(self, condition: Condition) -> Source | None:
        """Return validation pictures of the 200 classes, or the released folder."""
        if condition["side"] == INSIDE:
            return Source("imagenet", {"part": "o"})
        return Source("imagenet_o")
