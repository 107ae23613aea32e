"""A client's local training, differentiable in its pictures."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from privbench.observation import PublicModel
from privbench.threat import Draw, Images, Protocol


@dataclass(frozen=True)
class LocalModel(PublicModel):
    """A model whose "gradient" is the update of a client that takes several steps."""

    protocol: Protocol

    def gradient(
        self,
        images: Images,
        labels: Tensor,
        draw: Draw | None = None,
        *,
        of: Iterable[str] | None = None,
        differentiable: bool = True,
    ) -> dict[str, Tensor]:
        """Sum of what SGD with momentum subtracts, in units of the learning rate.

        Differentiated through all steps. A penalty of the defense moves the weights as it does
        at the first step, and is not in the sum.
        """
        own = _Forward(self)
        weights = {name: p.detach().requires_grad_() for name, p in self.vit.trained().items()}
        wanted = tuple(weights) if of is None else tuple(of)
        pull = {name: part.detach() for name, part in self.penalty_gradient(draw).items()}
        steps, rate = self.protocol.local_steps, self.protocol.local_rate
        velocity = {name: torch.zeros_like(p) for name, p in weights.items()}
        pulled = dict(velocity)
        total = {name: velocity[name] for name in wanted}
        for step in range(steps):
            last = step == steps - 1
            slopes = own.slopes(images, labels, draw, weights, wanted if last else tuple(weights))
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


class _Forward(nn.Module):
    """The forward pass with weights of the caller; a copy, since other threads use the model."""

    def __init__(self, model: PublicModel) -> None:
        super().__init__()
        self.vit, self.defense = copy.deepcopy(model.vit), model.defense

    def forward(self, images: Images, draw: Draw | None) -> Float[Tensor, "b classes"]:
        return self.defense.forward(self.vit, images, draw)

    def slopes(
        self,
        images: Images,
        labels: Tensor,
        draw: Draw | None,
        weights: dict[str, Tensor],
        of: tuple[str, ...],
    ) -> dict[str, Tensor]:
        named = {f"vit.{name}": tensor for name, tensor in weights.items()}
        loss = cross_entropy(functional_call(self, named, (images, draw)), labels)
        chosen = [weights[name] for name in of]
        found = torch.autograd.grad(loss, chosen, create_graph=True, materialize_grads=True)
        return dict(zip(of, found, strict=True))
