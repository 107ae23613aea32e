"""PSNR after the best one-to-one matching of patches: content without order."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from privbench.metric import Metric, Target
from privbench.metrics._formulas import CAP, decibels, matched_error, patch_pairs
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
