"""The FFT2D of the MJP paper with the conjugate that its script leaves out."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from privbench.metric import Metric, Target
from privbench.metrics._fourier import distance, spectrum
from privbench.threat import Images


class HermitianFFT2D(Metric):
    """FFT2D of MJP, corrected: cosine distance of spectra.

    Range 0 (equal) to 1, no unit. |1 - sum F conj(G) / (|F| |G|)| over all channels, which by
    Parseval's identity is the cosine distance of the pixels themselves: brightness counts for
    nothing, and the mean color for much. `fft2d_mjp` is the form that the paper's tables have.
    """

    paper: ClassVar[str] = "arXiv:2205.12551"
    higher_is_better: ClassVar[bool] = False

    def score(self, found: Images, target: Target) -> Float[Tensor, " b"]:
        """Score each image of a batch."""
        f, g = spectrum(found), spectrum(target.images)
        norm = f.norm(dim=1) * g.norm(dim=1)
        return distance(f, g, (f * g.conj()).sum(1), norm.to(f.dtype))
