"""ImageNet-O (Hendrycks et al., 2021): pictures of classes that ImageNet-1k lacks."""

from typing import ClassVar

from privbench.datasets._classes import Part
from privbench.datasets._subset import Subset


class ImageNetO(Subset):
    """2,000 pictures of unknown classes, labelled with the class that each is taken for."""

    paper: ClassVar[str] = "arXiv:1907.07174"
    title: ClassVar[str] = "ImageNet-O"
    part: ClassVar[Part] = "o"
