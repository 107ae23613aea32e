"""The corruptions that ImageNet-C and CIFAR-10-C were released with (arXiv:1903.12261)."""

SEVERITIES = (1, 2, 3, 4, 5)
TARS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "extra": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
}
"""By the archive that holds them, in the order of the paper."""
EXTRA = TARS["extra"]
"""The four for validation; counting them is a known trap."""
NAMES = tuple(name for names in TARS.values() for name in names)
COUNTED = tuple(name for name in NAMES if name not in EXTRA)
"""The fifteen that count."""
