"""Structural similarity (Wang et al., IEEE Transactions on Image Processing 2004)."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from privbench.metric import Metric, Target
from privbench.threat import Images

WINDOW, SIGMA = 11, 1.5
"""Pixels; as in the paper."""
K1, K2 = 0.01, 0.03
"""Stabilizers, shares of the pixels' range; as in the paper."""


class SSIM(Metric):
    """Structural similarity, mean over color channels.

    Range -1 to 1 (equal), no unit. 11x11 Gaussian window, sigma 1.5, only where it fits inside
    the picture, population covariance (Wang et al., 2004): not comparable with other windows.
    """

    paper: ClassVar[str] = "doi:10.1109/TIP.2003.819861"
    higher_is_better: ClassVar[bool] = True

    def applies(self, target: Target) -> bool:
        """Whether the window fits into the picture."""
        return min(target.images.shape[-2:]) >= WINDOW

    def score(self, found: Images, target: Target) -> Float[Tensor, " b"]:
        """Score each image of a batch."""
        # float32 loses the variance of flat regions to cancellation
        x, y = found.clamp(0, 1).double(), target.images.clamp(0, 1).double()
        mean_x, mean_y = local_mean(x), local_mean(y)
        var_x = local_mean(x * x) - mean_x * mean_x
        var_y = local_mean(y * y) - mean_y * mean_y
        covariance = local_mean(x * y) - mean_x * mean_y
        luminance = (2 * mean_x * mean_y + K1**2) / (mean_x * mean_x + mean_y * mean_y + K1**2)
        structure = (2 * covariance + K2**2) / (var_x + var_y + K2**2)
        return (luminance * structure).mean(dim=(1, 2, 3)).float()  # eq. 13


def local_mean(images: Images) -> Float[Tensor, "b 3 u v"]:
    """Gaussian mean of each neighborhood that lies inside the picture."""
    h, w = images.shape[-2:]
    return window(images, h) @ images @ window(images, w).T


def window(images: Images, size: int) -> Float[Tensor, "u size"]:
    """Row i weighs the pixels i ... i + 10 of a line; as a matrix it beats a convolution here."""
    offsets = torch.arange(size, dtype=images.dtype, device=images.device)
    distance = offsets - WINDOW // 2 - offsets[: size - WINDOW + 1, None]
    weights = torch.exp(-distance.square() / (2 * SIGMA**2)) * (distance.abs() <= WINDOW // 2)
    return weights / weights.sum(1, keepdim=True)
