"""ImageNet-R (Hendrycks et al., 2021): renditions of 200 classes, from paintings to toys."""

from typing import ClassVar

from privbench.datasets._classes import Part
from privbench.datasets._subset import Subset


class ImageNetR(Subset):
    """30,000 renditions of 200 classes, from ROOT/WNID/."""

    paper: ClassVar[str] = "arXiv:2006.16241"
    title: ClassVar[str] = "ImageNet-R"
    part: ClassVar[Part] = "r"
