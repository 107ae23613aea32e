"""The corruptions that ImageNet-C and CIFAR-10-C were released with."""

from privbench.errors import UnknownName

TARS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "extra": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
}
"""By the archive that holds them, in the order of the paper; "extra" is for validation."""
NAMES = tuple(name for names in TARS.values() for name in names)


def check_corruption(name: str) -> None:
    """Refuse a name that is not among the 19."""
    UnknownName.refuse("corruption", [name], NAMES)


def tar_of(name: str) -> str:
    """Return the archive, and the folder in some trees, that a corruption belongs to."""
    return next(tar for tar, names in TARS.items() if name in names)
