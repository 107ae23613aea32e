"""ImageNet-Sketch: 1000 classes, drawn."""

from typing import ClassVar

from privbench.evals._shifted import Shifted


class ImageNetSketch(Shifted):
    """Accuracy, RMS calibration error and AURRA on black and white sketches."""

    paper: ClassVar[str] = "arXiv:1905.13549"
    brings: ClassVar[str] = "imagenet_sketch"
