"""Local differential privacy as Flower's client modifier has it."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor

from privbench.accounting import Privacy, classical_sigma, gaussian_epsilon
from privbench.defense import Defense
from privbench.defenses._clipping import factor, on_the_gradient
from privbench.threat import Update


class FlowerLdp(Defense):
    """Flower's LocalDpMod: the update is clipped and gets Gaussian noise by the textbook formula.

    Any two clipped updates are up to twice the norm apart, which is the sensitivity of local
    privacy; the setting is whatever its user says. And the formula is proved below epsilon 1 only.
    """

    paper: ClassVar[str] = "doi:10.1561/0400000042"
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls", "map")
    clipping_norm: Annotated[float, Field(gt=0)] = 1.0
    """L2 norm of all tensors together, in units of what is shared: Flower clips the change of the
    weights. Like all settings of it without a default of Flower's."""
    sensitivity: Annotated[float, Field(gt=0)] = 1.0
    """That the formula takes."""
    epsilon: Annotated[float, Field(gt=0)] = 1.0
    """That the formula takes."""
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    """That the formula takes."""

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise in every entry."""
        return self.sensitivity * classical_sigma(self.epsilon, self.delta)

    def protect(self, update: Update, rng: Generator) -> Update:
        """Scale down to the norm, then add noise to every entry."""
        scale = factor(update.tensors.values(), self.clipping_norm)
        noisy = {}
        for name, tensor in update.tensors.items():
            noise = torch.randn(tensor.shape, generator=rng).to(tensor)
            noisy[name] = scale * tensor + self.deviation * noise
        return Update(noisy, update.withheld)

    def deviations(self, tensors: Mapping[str, Tensor], batch: int = 1) -> dict[str, Tensor]:
        """Return the noise, which is the same for every entry."""
        return {n: torch.full_like(t, self.deviation).double() for n, t in tensors.items()}

    def deviations_at(
        self, gradient: Mapping[str, Tensor], tensors: Mapping[str, Tensor], share: float
    ) -> dict[str, Tensor]:
        """Return the noise as it weighs on the gradient, which clipping made smaller."""
        return on_the_gradient(self.deviations(tensors), gradient, self.clipping_norm)

    def privacy(self, entries: int, delta: float) -> Privacy:
        """Return the exact guarantee at the true sensitivity, twice the norm."""
        noise = self.deviation / (2 * self.clipping_norm)
        found = gaussian_epsilon(noise, delta)
        return Privacy("update", found, noise=noise, claimed=self.epsilon)
