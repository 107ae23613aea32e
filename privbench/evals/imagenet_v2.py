"""ImageNet-V2: new pictures, gathered as the validation set was."""

from typing import ClassVar

from privbench.evals._shifted import Shifted


class ImageNetV2(Shifted):
    """Accuracy, RMS calibration error and AURRA on a second test set."""

    paper: ClassVar[str] = "arXiv:1902.10811"
    brings: ClassVar[str] = "imagenet_v2"
