"""The FFT2D of the MJP paper, as its released script computes it."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from privbench.metric import Metric, Target
from privbench.metrics._fourier import distance, spectrum
from privbench.threat import Images


class ReleasedFFT2D(Metric):
    """FFT2D as MJP's script has it: cosine distance of spectra, none conjugated.

    Range 0 (equal) to about 1, no unit. |1 - sum F G / sqrt(sum F F sum G G)| over all channels.
    Without a conjugate that compares with the picture turned by 180 degrees, and the mean color
    decides nearly all of it: only for comparison with the paper's tables. `fft2d_hermitian` has
    the conjugate.
    """

    paper: ClassVar[str] = "arXiv:2205.12551"
    higher_is_better: ClassVar[bool] = False

    def score(self, found: Images, target: Target) -> Float[Tensor, " b"]:
        """Score each image of a batch."""
        f, g = spectrum(found), spectrum(target.images)
        # scipy before it refused complex numbers: uv / sqrt(uu vv), plain products
        return distance(f, g, (f * g).sum(1), ((f * f).sum(1) * (g * g).sum(1)).sqrt())
