"""The prior of pictures for closed forms: Gaussian waves, a variance for each length.

A stationary Gaussian is nearly diagonal in cosines, so its precision costs two small products on
pictures of any size, where a matrix over all pixels would not fit.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from privbench.patches import cut, join
from privbench.pixels import LEVELS
from privbench.prior import AXES, of_square, squared_distances

LEAST = 1e-6
"""Smallest variance of a wave, in squared spreads of a color; only against rounding."""

Patches = Float[Tensor, "n p"]


class Waves:
    """Precision and covariance of normalized patches, float64, mean zero."""

    def __init__(self, side: int, patch: int, spread: Float[Tensor, " 3"]) -> None:
        """Take the sides of picture and patch, and the standard deviation of each color."""
        self.side, self.patch = side, patch
        self.colors = torch.tensor([axis.color for axis in AXES]).to(spread)  # a 3
        self.rounding = float((LEVELS * spread).square().reciprocal().mean()) / 12
        line = torch.arange(side).to(spread)
        self.cosines = torch.cos(torch.pi * (line + 0.5) * line[:, None] / side)
        self.cosines /= self.cosines.norm(dim=1, keepdim=True)
        lags = torch.arange(1 - side, side).to(spread)
        lagged = torch.stack([self._lagged(int(lag)) for lag in lags], dim=1)  # k lag
        apart = (lags[:, None].square() + lags.square()) / side**2
        waves = [axis.variance * lagged @ axis.correlation(apart) @ lagged.T for axis in AXES]
        self.variances = torch.stack(waves).clamp(min=LEAST) + self.rounding  # a k k

    def _lagged(self, lag: int) -> Float[Tensor, " k"]:
        """Correlation of each cosine with itself, so many pixels further."""
        keep = self.side - abs(lag)
        return (self.cosines[:, :keep] * self.cosines[:, self.side - keep :]).sum(1)

    def form(self, patches: Patches) -> Patches:
        """Inverse covariance times the patches."""
        colored = torch.einsum("ac,chw->ahw", self.colors, join(patches[None], self.patch)[0])
        waves = self.cosines @ colored @ self.cosines.T / self.variances
        colored = self.cosines.T @ waves @ self.cosines
        return cut(torch.einsum("ac,ahw->chw", self.colors, colored)[None], self.patch)[0]

    def of_patch(self) -> Float[Tensor, "p p"]:
        """Covariance of one patch by itself."""
        apart = squared_distances(self.patch, self.side, self.cosines)
        return of_square(self.colors, apart, self.rounding)
