"""ImageNet-Sketch (Wang et al., 2019): the 1000 classes, drawn."""

from typing import ClassVar

from privbench.datasets._wnids import Natural


class ImageNetSketch(Natural):
    """50,889 drawings of 1000 classes, from ROOT/sketch/WNID/ or ROOT/WNID/."""

    paper: ClassVar[str] = "arXiv:1905.13549"
    title: ClassVar[str] = "ImageNet-Sketch"
    within: ClassVar[tuple[str, ...]] = ("sketch",)
