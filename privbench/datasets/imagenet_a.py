"""ImageNet-A (Hendrycks et al., 2021): natural pictures that a ResNet-50 gets wrong."""

from typing import ClassVar

from privbench.datasets._classes import Part
from privbench.datasets._subset import Subset


class ImageNetA(Subset):
    """7,500 natural adversarial pictures of 200 classes, from ROOT/WNID/."""

    paper: ClassVar[str] = "arXiv:1907.07174"
    title: ClassVar[str] = "ImageNet-A"
    part: ClassVar[Part] = "a"
