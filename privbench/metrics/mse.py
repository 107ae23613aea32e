"""Mean squared error."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from privbench.metric import Metric, Target
from privbench.metrics._formulas import squared_error
from privbench.threat import Images


class MSE(Metric):
    """Mean squared error over pixels and channels.

    Range 0 (equal) to 1, no unit. What PSNR is the logarithm of.
    """

    higher_is_better: ClassVar[bool] = False

    def score(self, found: Images, target: Target) -> Float[Tensor, " b"]:
        """Score each image of a batch."""
        return squared_error(found, target.images)
