"""Share of patches that a reconstruction has in their place."""

from typing import ClassVar

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from privbench.metric import Metric, Target
from privbench.metrics._formulas import patch_pairs
from privbench.threat import Images

ALIKE = 1e-4
"""Mean squared difference (40 dB) up to which two patches count as one; set by reason."""


class Placed(Metric):
    """Share of the patches whose best match is the true patch of their own place.

    Range 0 to 1. Matched one to one as in `psnr_matched` (Hungarian method, cost MSE). Patches
    that differ by less than 40 dB, as in a clear sky, may stand for each other. Only for defenses
    that move something.
    """

    paper: ClassVar[str] = "doi:10.1002/nav.3800020109"
    higher_is_better: ClassVar[bool] = True

    def applies(self, target: Target) -> bool:
        """Whether the network input differs from the private picture."""
        return target.moved

    def score(self, found: Images, target: Target) -> Float[Tensor, " b"]:
        """Score each image of a batch."""
        pairs = patch_pairs(found, target.images, target.patch)
        return torch.stack([_share(a, b) for a, b in pairs])


def _share(found: Float[Tensor, "n p"], truth: Float[Tensor, "n p"]) -> Float[Tensor, ""]:
    a, b = found.double().cpu(), truth.double().cpu()
    cost = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
    matched = torch.from_numpy(linear_sum_assignment(cost.numpy())[1])
    alike = (truth[matched.to(truth.device)] - truth).square().mean(1) <= ALIKE
    return alike.float().mean()
