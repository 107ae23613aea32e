"""A client's local training, differentiable in its pictures."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from privbench.client_step import ClientStep
from privbench.observation import PublicModel
from privbench.threat import Images, Protocol, Randomness


@dataclass(frozen=True)
class LocalModel(PublicModel):
    """A model whose "gradient" is the update of a client that takes several steps."""

    protocol: Protocol

    def gradient(
        self,
        images: Images,
        labels: Tensor,
        draw: Randomness | None = None,
        *,
        of: Iterable[str] | None = None,
        differentiable: bool = True,
    ) -> dict[str, Tensor]:
        """Sum of what SGD with momentum subtracts, in units of the learning rate.

        Differentiated through all steps. A penalty of the defense moves the weights as it does
        at the first step, and is not in the sum.
        """
        own = ClientStep(self.vit, self.defense).apart()  # other threads use the model
        weights = {name: p.detach().requires_grad_() for name, p in self.vit.trained().items()}
        wanted = tuple(weights) if of is None else tuple(of)
        pull = {name: part.detach() for name, part in self.penalty_gradient(draw).items()}
        steps, rate = self.protocol.local_steps, self.protocol.local_rate
        velocity = {name: torch.zeros_like(p) for name, p in weights.items()}
        pulled = dict(velocity)
        total = {name: velocity[name] for name in wanted}
        for step in range(steps):
            last = step == steps - 1
            slopes = own.gradient(
                *(images, labels, draw),
                weights=weights,
                of=wanted if last else None,
                differentiable=True,
            )
            for name, slope in slopes.items():
                velocity[name] = self.protocol.momentum * velocity[name] + slope
            for name in wanted:
                total[name] = total[name] + velocity[name]
            if last:
                break
            for name, part in pull.items():
                pulled[name] = self.protocol.momentum * pulled[name] + part
            weights = {n: p - rate * (velocity[n] + pulled[n]) for n, p in weights.items()}
        return total if differentiable else {n: part.detach() for n, part in total.items()}
