"""Noise on the shared update (Zhu et al., NeurIPS 2019, section 5.1)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor

from privbench.defense import Defense
from privbench.defenses._laplace import laplace
from privbench.threat import Update


class Noise(Defense):
    """Gaussian or Laplace noise, as a share of each tensor's rms or of an absolute size.

    Nothing bounds an update, so it has no epsilon: `dp_sgd` and `flower_ldp` clip before.
    """

    paper: ClassVar[str] = "arXiv:1906.08935"
    version: ClassVar[int] = 2
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls", "map")
    sigma: Annotated[float, Field(ge=0)] = 0.01
    """Standard deviation; that of Laplace noise is its scale times the root of two."""
    relative: bool = True
    """Whether sigma is in units of each tensor's root mean square."""
    distribution: Literal["gaussian", "laplace"] = "gaussian"

    def protect(self, update: Update, rng: Generator) -> Update:
        """Add independent noise to every entry."""
        noisy = {}
        for name, tensor in update.tensors.items():
            # Wide, since squares of a small gradient are zero in float32.
            rms = tensor.double().square().mean().sqrt().to(tensor)
            scale = rms if self.relative else tensor.new_tensor(1.0)
            noisy[name] = tensor + self.sigma * scale * self._unit(tensor, rng)
        return Update(noisy, update.withheld)

    def _unit(self, tensor: Tensor, rng: Generator) -> Tensor:
        """Draw noise of standard deviation one."""
        if self.distribution == "gaussian":
            return torch.randn(tensor.shape, generator=rng).to(tensor)
        return (laplace(tensor.shape, rng) / 2**0.5).to(tensor)

    def deviations(
        self, tensors: Mapping[str, Tensor], batch: int = 1
    ) -> dict[str, Float[Tensor, "..."]]:
        """Return sigma, or what of a noisy tensor's size is due to it."""
        share = self.sigma / (1 + self.sigma**2) ** 0.5
        found = {}
        for name, tensor in tensors.items():
            size = tensor.double().square().mean().sqrt() * share
            found[name] = (size if self.relative else size.new_tensor(self.sigma)).expand_as(tensor)
        return found
