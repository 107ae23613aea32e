"""PSNR against the network input."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from privbench.metric import Metric, Target
from privbench.metrics._formulas import CAP, decibels, squared_error
from privbench.threat import Images


class FedPSNR(Metric):
    """PSNR against the network input: patches where the defense put them.

    Range 0 to 100 dB. Only for defenses that move something: the gradient knows its input.
    """

    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "dB"
    cap: ClassVar[float | None] = CAP

    def applies(self, target: Target) -> bool:
        """Whether the network input differs from the private picture."""
        return target.moved

    def score(self, found: Images, target: Target) -> Float[Tensor, " b"]:
        """Score each image of a batch."""
        return decibels(squared_error(found, target.fed))
