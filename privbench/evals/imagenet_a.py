"""ImageNet-A: natural pictures that ResNet-50 gets wrong."""

from typing import ClassVar

from privbench.evals._shifted import Shifted


class ImageNetA(Shifted):
    """Accuracy, RMS calibration error and AURRA among the 200 classes."""

    paper: ClassVar[str] = "arXiv:1907.07174"
    brings: ClassVar[str] = "imagenet_a"
    part: ClassVar[str] = "a"
