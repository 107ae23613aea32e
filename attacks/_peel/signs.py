"""Pictures out of mixtures whose pixels were multiplied by -1 or 1 at random, around gray.

Magnitudes of the mixtures are known, and the mixing matrix. Of the signs at one pixel, those of
mixture against mixture are told by the grid of 256 levels, on which all pictures have to come out
at once. One common sign a pixel stays open, as the negative lies on the grid, too: neighbors that
look alike in all pictures share it, and a tree of the strongest likenesses ties all pixels.
"""

from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
from torch import Tensor

from privbench.pixels import LEVELS
from privbench.threat import Images

MIDDLE = 0.5
"""Gray, at which pixels have no sign."""
MOST = 8
"""Mixtures whose sign patterns, half of two to their number, are tried."""
OUTSIDE = 10.0
"""Levels off the grid that a pixel below black or above white counts as, at least; by reason."""


def unflipped(inputs: Images, mixing: Float[Tensor, "b b"]) -> Images | None:
    """Return pictures, all negative or none; None for more mixtures than can be tried."""
    b = len(inputs)
    if b > MOST:
        return None
    given = (inputs.double() - MIDDLE).flatten(1)  # b m
    inverse = torch.linalg.inv(mixing.double())
    best, least = torch.zeros_like(given), torch.full_like(given[0], torch.inf)
    for rest in product((1.0, -1.0), repeat=b - 1):
        signs = given.new_tensor((1.0, *rest))
        found = inverse @ (signs[:, None] * given)
        level = LEVELS * (found + MIDDLE)
        off = (level - level.round()).abs()
        away = (found.abs() - MIDDLE).clamp(min=0) * LEVELS
        off = torch.where(away > 1, OUTSIDE + away, off).square().sum(0)
        best = torch.where(off < least, found, best)
        least = torch.minimum(off, least)
    pictures = best.view(inputs.shape)
    return (MIDDLE + common(pictures) * pictures).to(inputs)


def common(pictures: Float[Tensor, "b c h w"]) -> Int[Tensor, "c h w"]:
    """Return one sign a pixel after which neighbors, in place and color, are alike at their best.

    Two pixels of values p and q are nearer with one sign if the sum of p q over pictures is
    positive. The tree of the largest such sums decides; the first pixel keeps its sign.
    """
    c, h, w = pictures.shape[1:]
    number = torch.arange(c * h * w).view(c, h, w)
    pairs = [
        (number[:, :, 1:], number[:, :, :-1]),
        (number[:, 1:], number[:, :-1]),
        *((number[one], number[other]) for one in range(c) for other in range(one)),
    ]
    first, second = (torch.cat([pair[side].flatten() for pair in pairs]) for side in (0, 1))
    flat = pictures.flatten(1)
    like = (flat[:, first] * flat[:, second]).sum(0).numpy()
    # no weight may be zero, which would be no edge
    weights = coo_array((-np.abs(like) - 1e-12, (first.numpy(), second.numpy())), (c * h * w,) * 2)
    tree = minimum_spanning_tree(weights)
    order, before = breadth_first_order(tree, 0, directed=False)
    signs = np.ones(c * h * w, dtype=np.int64)
    values = flat.numpy()
    for pixel in order[1:]:
        parent = before[pixel]
        alike = float(values[:, pixel] @ values[:, parent])
        signs[pixel] = signs[parent] * (1 if alike >= 0 else -1)
    return torch.from_numpy(signs).view(c, h, w)
