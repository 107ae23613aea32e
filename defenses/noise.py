"""Gaussian noise on the shared update (Zhu et al., NeurIPS 2019, section 5.1)."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Generator

from privbench.defense import Defense
from privbench.threat import Update


class Noise(Defense):
    """Gaussian noise, as a share of each tensor's rms or of an absolute size."""

    paper: ClassVar[str] = "arXiv:1906.08935"
    version: ClassVar[int] = 2
    sigma: Annotated[float, Field(ge=0)] = 0.01
    relative: bool = True
    """Whether sigma is in units of each tensor's root mean square."""

    def protect(self, update: Update, rng: Generator) -> Update:
        """Add independent noise to every entry."""
        noisy = {}
        for name, tensor in update.tensors.items():
            # Wide, since squares of a small gradient are zero in float32.
            rms = tensor.double().square().mean().sqrt().to(tensor)
            scale = rms if self.relative else tensor.new_tensor(1.0)
            noise = torch.randn(tensor.shape, generator=rng).to(tensor)
            noisy[name] = tensor + self.sigma * scale * noise
        return Update(noisy, update.withheld)
