"""The corruptions that ImageNet-C and CIFAR-10-C were released with."""

from privbench.corruption_names import NAMES, TARS
from privbench.errors import UnknownName


def check_corruption(name: str) -> None:
    """Refuse a name that is not among the 19."""
    UnknownName.refuse("corruption", [name], NAMES)


def tar_of(name: str) -> str:
    """Return the archive, and the folder in some trees, that a corruption belongs to."""
    return next(tar for tar, names in TARS.items() if name in names)
