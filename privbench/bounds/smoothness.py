"""The prior for pictures that are no rougher and no more colorful than one.

The prior of all pictures is far too wide along what a smooth one has little of, and whoever sees
most of a picture sees how smooth it is: without this an attack may pass a ceiling by some decibels.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from privbench.pixels import LEVELS
from privbench.prior import AXES, squared_distances
from privbench.threat import Images
from privbench.vit import ViT

FIRST = 8
"""Directions of the coarsest band of a color, the widest in the prior; each band has twice as many
as the one before. So few bands tell of a picture how strong they are, and nothing else."""


def covariance_within(vit: ViT, image: Images) -> Float[Tensor, "k k"]:
    """Covariance around a victim's mean color, with the image's mean square where that is less.

    Bands of an axis of color are octaves of the prior's principal directions, which are nearly
    frequencies. Float64, channel by channel; what rounding to 8 bits adds is no part of a band. As
    no band has more than in the prior, a ceiling is at least as high as by either.
    """
    spread = vit.std.flatten().double()
    rounding = LEVELS**-2 / 12
    apart = squared_distances(vit.side, vit.side, spread)
    colors = torch.stack([spread * spread.new_tensor(axis.color) for axis in AXES], dim=1)
    mixed = torch.linalg.inv(colors)  # of a pixel, how much it has of each axis
    offsets = mixed @ (image - vit.mean).double().flatten(2)[0]
    whole = rounding * torch.eye(3 * len(apart)).to(spread)
    for axis, color, own, offset in zip(AXES, colors.T, mixed, offsets, strict=True):
        found, basis = (one.flip(-1) for one in torch.linalg.eigh(axis.correlation(apart)))
        strength = (basis.T @ offset).square() - rounding * own.square().sum()
        variance = torch.empty_like(found)
        start, end = 0, FIRST
        while start < len(found):
            part, share = slice(start, end), found[start:end]
            level = strength[part].sum() / share.sum()
            variance[part] = share * level.clamp(min=0, max=axis.variance)
            start, end = end, 2 * end
        whole += torch.kron(torch.outer(color, color), (basis * variance) @ basis.T)
    return whole
