"""ImageNet-R: renditions, from sculptures to cartoons."""

from typing import ClassVar

from privbench.evals._shifted import Shifted


class ImageNetR(Shifted):
    """Accuracy, RMS calibration error and AURRA among the 200 classes."""

    paper: ClassVar[str] = "arXiv:2006.16241"
    brings: ClassVar[str] = "imagenet_r"
    part: ClassVar[str] = "r"
