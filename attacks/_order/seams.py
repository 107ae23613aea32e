"""How well patches fit side by side, from their borders alone."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

NEAR, BLANK = 1e-3, 1 / 255
"""Costs below which seams count as perfect, in units of the pixels, and the step in brightness that
is no edge: one of 8 bits."""
RIVALS = 5
"""A seam is as good as it is better than the fifth best of either patch."""


def seams(patches: Float[Tensor, "n p"], side: int) -> Float[np.ndarray, "2 n n"]:
    """Cost of patch j right of patch i, and below it; pixels in [0, 1].

    The logarithm of two measures: prediction (Pomeranz et al., CVPR 2011) and Mahalanobis
    gradient compatibility (Gallagher, CVPR 2012), both from either side, relative to the rivals.
    Zero and more says nothing for a seam, -1 that it beats its rivals by a factor of e.
    """
    blocks = patches.double().unflatten(1, (-1, side, side))  # n c y x
    across, down = blocks.permute(0, 2, 3, 1), blocks.permute(0, 3, 2, 1)  # n line depth c
    return np.stack([_costs(lines).cpu().numpy() for lines in (across, down)])


def _costs(lines: Float[Tensor, "n s s c"]) -> Float[Tensor, "n n"]:
    """Compare the ends of all lines with the starts of all lines."""
    ends, starts = lines.flip(2), lines
    predicted = _prediction(ends, starts) + _prediction(starts, ends).T
    gradient = _gradient(ends, starts) + _gradient(starts, ends).T
    cost = torch.log(predicted + NEAR) + 0.5 * torch.log(gradient + NEAR)
    cost.fill_diagonal_(torch.inf)
    k = min(RIVALS, len(cost) - 1) + 1
    rows = cost.kthvalue(k, dim=1).values[:, None]
    columns = cost.kthvalue(k, dim=0).values
    return (cost - torch.minimum(rows, columns)).clamp(max=0).float()


def _prediction(ends: Float[Tensor, "n s s c"], starts: Float[Tensor, "m s s c"]) -> Tensor:
    """Distance of each start from the line prolonged by half of its last step."""
    ahead = ends[:, :, 0] + 0.5 * (ends[:, :, 0] - ends[:, :, 1])
    return torch.cdist(ahead.flatten(1), starts[:, :, 0].flatten(1), p=1)


def _gradient(ends: Float[Tensor, "n s s c"], starts: Float[Tensor, "m s s c"]) -> Tensor:
    """Squared distance of the step across the seam from the steps before it, in their units."""
    steps = ends[:, :, 0] - ends[:, :, 1]  # n s c
    mean = steps.mean(1)
    # so many steps of a blank patch keep the covariance regular, as Gallagher does
    count, c = steps.shape[1:]
    apart = steps - mean[:, None]
    blank = 2 * BLANK**2 * torch.eye(c).to(steps)
    metric = torch.linalg.inv((apart.mT @ apart + blank) / count)  # n c c
    jump = starts[None, :, :, 0] - (ends[:, :, 0] + mean[:, None])[:, None]  # n m s c
    return torch.einsum("nmsa,nab,nmsb->nm", jump, metric, jump)
