"""What the attacks of an audit are told of the client: how it stepped, what it sent, its noise."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from privbench.auditing.update import Client, Difference
from privbench.defense import Defense
from privbench.observation import PublicModel
from privbench.stack import Stack
from privbench.threat import Protocol, Update


class Added(Defense):
    """Gaussian noise of which only the size is told, whatever defense it came from."""

    sigma: float = 0.0
    """Standard deviation, in units of the update."""

    def protect(self, update: Update, rng: Generator) -> Update:
        """Add as much, as an attack does that simulates the client."""
        noisy = {
            name: tensor + self.sigma * torch.randn(tensor.shape, generator=rng).to(tensor)
            for name, tensor in update.tensors.items()
        }
        return Update(noisy, update.withheld)

    def deviations(
        self, tensors: Mapping[str, Tensor], batch: int = 1
    ) -> dict[str, Float[Tensor, "..."]]:
        """Return the size that was told."""
        return {
            name: tensor.double().new_tensor(self.sigma).expand_as(tensor)
            for name, tensor in tensors.items()
        }


def protocol(client: Client, update: Difference, *, weights: bool) -> Protocol:
    """Return the client as a threat model has it; an unknown rate is the update's unit.

    Noise covers what rounding did, and is measured by attacks that weigh errors.
    """
    return Protocol(
        local_steps=client.steps,
        local_rate=client.rate or 1.0,
        wire="weights" if weights and not client.noise else "gradient",
        precision="float32" if client.noise else update.sent,
        optimizer=client.optimizer,
    )


def noisy(model: PublicModel, noise: float) -> PublicModel:
    """Return a model whose client adds noise of a standard deviation, in units of the update."""
    if not noise:
        return model
    return replace(model, defense=Stack(parts=(model.defense, Added(sigma=noise))))
