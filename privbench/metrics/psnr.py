"""Peak signal-to-noise ratio."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from privbench.metric import Metric, Target
from privbench.metrics._formulas import CAP, decibels, squared_error
from privbench.threat import Images


class PSNR(Metric):
    """Peak signal-to-noise ratio, -10 log10 MSE.

    Range 0 to 100 dB: an exact picture would score infinity and scores the cap.
    """

    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "dB"
    cap: ClassVar[float | None] = CAP

    def score(self, found: Images, target: Target) -> Float[Tensor, " b"]:
        """Score each image of a batch."""
        return decibels(squared_error(found, target.images))
