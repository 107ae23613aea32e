"""Pictures that nobody took: random fields, shapes that hide each other, and both together.

A Gaussian has the colors and the smoothness of pictures and none of their edges; dead leaves (Lee,
Mumford and Huang, IJCV 2001) have those. Networks can be trained on such pictures alone (Baradad et
al., arXiv:2106.05963). All have the victim's mean and spread of colors.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from privbench.prior import AXES
from privbench.threat import Images
from privbench.vit import ViT

LEAVES = 40
SMALL, LARGE = 0.06, 0.75
"""Radii of leaves in sides of the picture; their density falls with the third power."""
TEXTURE = 0.5
"""Of a textured leaf: size of the field on it, and 0.8 is that of its color."""
PARTS = 5
"""Shapes of an object."""

Fields = Float[Tensor, "n 3 s s"]
"""Deviations from the mean color."""
Places = Bool[Tensor, "n 1 s s"]


def invented(vit: ViT, count: int, number: int, rng: Generator) -> Images:
    """Return invented pictures for a victim; kinds take turns by number."""
    kind = KINDS[number % len(KINDS)]
    return (vit.mean + kind(vit, count, rng).to(vit.mean)).clamp(0, 1)


def fields(vit: ViT, count: int, rng: Generator) -> Fields:
    """Draw from the public prior: on a torus of twice the side its covariance is diagonal."""
    side, wide = vit.side, 2 * vit.side
    line = torch.arange(wide)
    line = torch.minimum(line, wide - line) / side
    apart = line[:, None].square() + line.square()
    found = torch.zeros(count, 3, side, side)
    for axis in AXES:
        power = torch.fft.fft2(axis.variance * axis.correlation(apart)).real.clamp(min=0)
        white = torch.randn(count, wide, wide, generator=rng)
        drawn = torch.fft.ifft2(torch.fft.fft2(white) * power.sqrt()).real[:, None, :side, :side]
        found = found + drawn * torch.tensor(axis.color)[:, None, None]
    return found * vit.std.float().cpu()


def leaves(vit: ViT, count: int, rng: Generator) -> Fields:
    """Draw disks, each of one color, that hide what was there before."""
    found = torch.zeros(count, 3, vit.side, vit.side)
    for _ in range(LEAVES):
        least, most = SMALL**-2, LARGE**-2
        radius = (least + (most - least) * torch.rand(count, 1, 1, 1, generator=rng)) ** -0.5
        centers = 1.5 * torch.rand(count, 2, generator=rng) - 0.25
        down, across = _from(centers, vit.side)
        on = down.square() + across.square() < radius.square()
        found = torch.where(on, _colors(vit, count, rng), found)
    return found


def textured(vit: ViT, count: int, rng: Generator) -> Fields:
    """Draw leaves with a field on all of them."""
    return 0.8 * leaves(vit, count, rng) + TEXTURE * fields(vit, count, rng)


def objects(vit: ViT, count: int, rng: Generator) -> Fields:
    """Draw an object of a few shapes, somewhere in the middle, before a background."""
    found = 0.7 * _colors(vit, count, rng) + _shares(count, 0.2, 0.8, rng) * fields(vit, count, rng)
    own = 0.8 * _colors(vit, count, rng)
    for number in range(PARTS):
        first = number == 0
        color = own if first else own + 0.5 * _colors(vit, count, rng)
        part = color + _shares(count, 0.1, 0.5, rng) * fields(vit, count, rng)
        on = _shape(vit, count, (0.19, 0.47) if first else (0.09, 0.31), rng)
        there = torch.rand(count, 1, 1, 1, generator=rng) < (1.0 if first else 0.7)
        found = torch.where(on & there, part, found)
    return found


def _shape(vit: ViT, count: int, sizes: tuple[float, float], rng: Generator) -> Places:
    """Return an ellipse or a rounded rectangle near the middle, turned by any angle."""
    down, across = _from(0.5 + 0.12 * torch.randn(count, 2, generator=rng), vit.side)
    half = [_shares(count, *sizes, rng) for _ in range(2)]
    angle = math.pi * torch.rand(count, 1, 1, 1, generator=rng)
    power = torch.where(torch.rand(count, 1, 1, 1, generator=rng) < 0.5, 2.0, 6.0)
    along = across * angle.cos() + down * angle.sin()
    beside = down * angle.cos() - across * angle.sin()
    return (along / half[0]).abs() ** power + (beside / half[1]).abs() ** power < 1


def _from(centers: Float[Tensor, "n 2"], side: int) -> tuple[Tensor, Tensor]:
    """Return how far each pixel is from centers, down and across, in sides; both n 1 s s."""
    line = (torch.arange(side) + 0.5) / side
    down = line[:, None] - centers[:, :1, None]  # n s 1
    across = line[None] - centers[:, 1:, None]  # n 1 s
    return down[:, None].expand(-1, -1, -1, side), across[:, None].expand(-1, -1, side, -1)


def _shares(count: int, least: float, most: float, rng: Generator) -> Float[Tensor, "n 1 1 1"]:
    return least + (most - least) * torch.rand(count, 1, 1, 1, generator=rng)


def _colors(vit: ViT, count: int, rng: Generator) -> Float[Tensor, "n 3 1 1"]:
    """Draw a color for each picture, as far from the mean as those of single pixels."""
    axes = torch.stack([math.sqrt(one.variance) * torch.tensor(one.color) for one in AXES])
    drawn = torch.randn(count, len(AXES), generator=rng) @ axes
    return drawn[:, :, None, None] * vit.std.float().cpu()


KINDS: tuple[Callable[[ViT, int, Generator], Fields], ...] = (fields, leaves, textured, objects)
