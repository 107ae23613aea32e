"""PSNR of the patches that a defense spared."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from privbench.metric import Metric, Target
from privbench.metrics._formulas import CAP, decibels, patch_pairs
from privbench.threat import Images


class UnmaskedPSNR(Metric):
    """PSNR over the patches that a mask spared; they stand where they stood.

    Range 0 to 100 dB. Only where the defense treats some patches and spares others.
    """

    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "dB"
    cap: ClassVar[float | None] = CAP

    def applies(self, target: Target) -> bool:
        """Whether each image has patches of both kinds."""
        return target.split

    def score(self, found: Images, target: Target) -> Float[Tensor, " b"]:
        """Score each image of a batch."""
        assert target.mask is not None
        rows = zip(patch_pairs(found, target.fed, target.patch), ~target.mask, strict=True)
        return decibels(torch.stack([(a - b)[kept].square().mean() for (a, b), kept in rows]))
