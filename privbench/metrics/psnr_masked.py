"""PSNR of the patches that a defense masked, after the best matching among them."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from privbench.metric import Metric, Target
from privbench.metrics._formulas import CAP, decibels, matched_error, patch_pairs
from privbench.threat import Images


class MaskedPSNR(Metric):
    """PSNR over the masked patches, in the order that fits best.

    No gradient shows their order.

    Range 0 to 100 dB. Matched one to one (Hungarian method, cost MSE). Only where the defense
    treats some patches and spares others.
    """

    paper: ClassVar[str] = "doi:10.1002/nav.3800020109"
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "dB"
    cap: ClassVar[float | None] = CAP

    def applies(self, target: Target) -> bool:
        """Whether each image has patches of both kinds."""
        return target.split

    def score(self, found: Images, target: Target) -> Float[Tensor, " b"]:
        """Score each image of a batch."""
        assert target.mask is not None
        rows = zip(patch_pairs(found, target.fed, target.patch), target.mask, strict=True)
        return decibels(torch.stack([matched_error(a[hid], b[hid]) for (a, b), hid in rows]))
