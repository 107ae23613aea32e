"""Errors under common corruptions, and what they are divided by (arXiv:1903.12261)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privbench.corruption_names import COUNTED, SEVERITIES

Cells = Mapping[tuple[str, int], NDArray[np.float64]]
"""By corruption and severity: for every picture 1 where the answer is wrong, 0 where it is right,
NaN where the picture could not be read."""
PerImage = NDArray[np.float64]
CLEAN = ("none", 0)
"""The cell of pictures as they are."""


@dataclass(frozen=True)
class Normalizer:
    """Top-1 errors of the model that counts as 100, means over five severities."""

    name: str
    errors: Mapping[str, float]
    clean: float | None = None
    """Its error on clean pictures; None where it is not known."""


HENDRYCKS = Normalizer(
    "hendrycks",
    {
        "gaussian_noise": 0.886428,
        "shot_noise": 0.894468,
        "impulse_noise": 0.922640,
        "defocus_blur": 0.819880,
        "glass_blur": 0.826268,
        "motion_blur": 0.785948,
        "zoom_blur": 0.798360,
        "snow": 0.866816,
        "frost": 0.826572,
        "fog": 0.819324,
        "brightness": 0.564592,
        "contrast": 0.853204,
        "elastic_transform": 0.646056,
        "pixelate": 0.717840,
        "jpeg_compression": 0.606500,
    },
    clean=0.43478,
)
"""AlexNet, by the authors of ImageNet-C; its clean error is that of torchvision's weights."""

ROBUSTBENCH = Normalizer(
    "robustbench5k",
    {
        "gaussian_noise": 0.88160,
        "shot_noise": 0.88832,
        "impulse_noise": 0.91724,
        "defocus_blur": 0.82204,
        "glass_blur": 0.83080,
        "motion_blur": 0.78724,
        "zoom_blur": 0.79572,
        "snow": 0.86800,
        "frost": 0.83148,
        "fog": 0.82364,
        "brightness": 0.55848,
        "contrast": 0.85432,
        "elastic_transform": 0.64804,
        "pixelate": 0.71856,
        "jpeg_compression": 0.60680,
    },
)
"""AlexNet on RobustBench's 5,000 pictures: up to 0.6 points away, hence another mCE."""


def missing(cells: Cells) -> list[tuple[str, int]]:
    """Return the cells of the 75 that have not been measured."""
    return [(c, s) for c in COUNTED for s in SEVERITIES if (c, s) not in cells]


def mean_error(cells: Cells) -> PerImage:
    """Return each picture's share of wrong answers over the 75 cells, in percent.

    All figures here are given by picture, in percent: their mean is the figure itself, and a
    bootstrap over pictures is the cluster bootstrap that 75 views of one picture call for.
    """
    return 100 * np.mean([_over_severities(cells, c) for c in COUNTED], axis=0)


def mce(cells: Cells, normalizer: Normalizer) -> PerImage:
    """Return mean corruption error: errors over the normalizer's, mean over 15 corruptions."""
    ratios = [_over_severities(cells, c) / normalizer.errors[c] for c in COUNTED]
    return 100 * np.mean(ratios, axis=0)


def relative_mce(cells: Cells, clean: PerImage, normalizer: Normalizer) -> PerImage:
    """Return the same of what corruptions add to the clean error, NaN without the normalizer's."""
    if normalizer.clean is None:
        return np.full_like(clean, np.nan)
    ratios = [
        (_over_severities(cells, c) - clean) / (normalizer.errors[c] - normalizer.clean)
        for c in COUNTED
    ]
    return 100 * np.mean(ratios, axis=0)


def normalizer_of(name: str, cells: Cells) -> Normalizer:
    """Make a normalizer of a measured model, such as the undefended one at 32 px."""
    return Normalizer(name, {c: float(np.nanmean(_over_severities(cells, c))) for c in COUNTED})


def _over_severities(cells: Cells, corruption: str) -> PerImage:
    return np.mean([cells[corruption, severity] for severity in SEVERITIES], axis=0)
