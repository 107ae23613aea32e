"""Two-dimensional spectra of pictures."""

import torch
from jaxtyping import Complex128, Float
from torch import Tensor

from privbench.threat import Images

RESOLVED = 1e-12
"""Of a distance: sums in float64 are no better, and an equal picture must score zero."""


Spectra = Complex128[Tensor, "b n"]
Sums = Complex128[Tensor, " b"]


def spectrum(images: Images) -> Spectra:
    """Discrete Fourier transform of each channel, after clamping to [0, 1]; one row an image."""
    return torch.fft.fft2(images.clamp(0, 1).double()).flatten(1)


def distance(f: Spectra, g: Spectra, product: Sums, norm: Sums) -> Float[Tensor, " b"]:
    """Modulus of 1 - product / norm; of no norm, as of black pictures, 0 where equal, else 1."""
    none = norm == 0
    share = torch.where(none, (f == g).all(1), product / torch.where(none, 1, norm))
    found = (1 - share).abs()
    return torch.where(found > RESOLVED, found, 0.0).float()
