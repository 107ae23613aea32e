"""Formulas that several metrics share."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from privbench.patches import cut
from privbench.threat import Images

CAP = 100.0
"""Decibels: an error below what float32 resolves."""


def squared_error(found: Images, truth: Images) -> Float[Tensor, " b"]:
    """Mean squared error per image, after clamping both to [0, 1]."""
    return (found.clamp(0, 1) - truth.clamp(0, 1)).square().mean(dim=(1, 2, 3))


def decibels(mse: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """PSNR of a mean squared error, peak 1, at most the cap."""
    return (-10 * torch.log10(mse)).clamp(max=CAP)


def patch_pairs(
    found: Images, truth: Images, patch: int
) -> Iterator[tuple[Float[Tensor, "n p"], Float[Tensor, "n p"]]]:
    """Patches of each image and of its truth, after clamping both to [0, 1]."""
    return zip(cut(found.clamp(0, 1), patch), cut(truth.clamp(0, 1), patch), strict=True)


def matched_error(found: Float[Tensor, "n d"], truth: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean squared error under the best assignment of found to true patches."""
    a, b = found.double().cpu(), truth.double().cpu()
    cost = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T  # n n
    rows, columns = linear_sum_assignment(cost.numpy())
    # not read off the cost, which cancels: an exact picture must score the cap
    return (found[rows] - truth[columns]).square().mean()
