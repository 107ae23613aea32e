"""Differentially private SGD (Abadi et al., CCS 2016)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor

from privbench.accounting import Privacy, gaussian_epsilon
from privbench.defense import Defense
from privbench.defenses._clipping import clipped


class DpSgd(Defense):
    """Clipped examples and Gaussian noise: differentially private SGD's step.

    Everybody knows the noise: its standard deviation is noise_multiplier * norm / batch size in
    every entry of the mean.
    """

    paper: ClassVar[str] = "arXiv:1607.00133"
    version: ClassVar[int] = 2
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls", "map")
    noise_multiplier: Annotated[float, Field(ge=0)] = 1.0
    """Standard deviation of the noise on the sum, in units of the norm."""
    norm: Annotated[float, Field(gt=0)] = 1.0
    """L2 norm over all tensors that no example's gradient exceeds."""

    @property
    def per_example(self) -> bool:
        """Ask for the examples' gradients."""
        return True

    def combine(self, gradients: Mapping[str, Tensor], rng: Generator) -> dict[str, Tensor]:
        """Clip, sum, add noise, and divide by the number of examples."""
        noisy = {}
        for name, tensor in clipped(gradients, self.norm).items():
            noise = torch.randn(tensor.shape[1:], generator=rng).to(tensor)
            noisy[name] = tensor.mean(0) + self.noise_multiplier * self.norm * noise / len(tensor)
        return noisy

    def deviations(
        self, tensors: Mapping[str, Tensor], batch: int = 1
    ) -> dict[str, Float[Tensor, "..."]]:
        """Return the noise, which is the same for every entry."""
        size = self.noise_multiplier * self.norm / batch
        return {n: torch.full_like(t, size, dtype=torch.float64) for n, t in tensors.items()}

    def privacy(self, entries: int, delta: float) -> Privacy:
        """Return the exact guarantee for an example of one step on a batch that is known."""
        epsilon = gaussian_epsilon(self.noise_multiplier, delta)
        return Privacy("example", epsilon, noise=self.noise_multiplier)
