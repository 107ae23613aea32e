"""PSNR after the best one-to-one matching of patches: content without order."""

from typing import ClassVar

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from privbench.metric import Metric, Target
from privbench.metrics._formulas import CAP, decibels, patch_pairs
from privbench.threat import Images


class MatchedPSNR(Metric):
    """PSNR after putting the found patches into the order that fits best.

    Range 0 to 100 dB, never below `psnr`. Each patch is used once (Hungarian method, cost MSE).
    """

    paper: ClassVar[str] = "doi:10.1002/nav.3800020109"
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "dB"
    cap: ClassVar[float | None] = CAP

    def score(self, found: Images, target: Target) -> Float[Tensor, " b"]:
        """Score each image of a batch."""
        pairs = patch_pairs(found, target.images, target.patch)
        return decibels(torch.stack([matched_error(ours, theirs) for ours, theirs in pairs]))


def matched_error(found: Float[Tensor, "n d"], truth: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean squared error under the best assignment of found to true patches."""
    a, b = found.double().cpu(), truth.double().cpu()
    cost = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T  # n n
    rows, columns = linear_sum_assignment(cost.numpy())
    # not read off the cost, which cancels: an exact picture must score the cap
    return (found[rows] - truth[columns]).square().mean()
