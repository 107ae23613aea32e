"""How an update changes with what is behind it: products with its Jacobian, both ways.

A gradient is itself a slope, dL/dw, so its Jacobian in the unknowns x is the mixed second
derivative d2L/dw dx. One backward pass through dL/dx multiplies with it, one through dL/dw with its
transpose; no column is ever kept.
"""

from collections.abc import Callable, Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad, vjp, vmap

from privbench.client_step import Gradient

AT_ONCE = 16
"""Columns that one pass takes: fastest on a CPU among 8, 16, 32 and 64 for 1.2 million weights."""

Unknowns = Float[Tensor, " k"]
Loss = Callable[[Gradient, Unknowns], Float[Tensor, ""]]
"""Of weights, by name, and unknowns."""


def precision(
    tensors: Mapping[str, Tensor],
    errors: Iterable[Mapping[str, Tensor]],
    kept: Mapping[str, Tensor],
    least: float,
) -> dict[str, Tensor]:
    """One over the variance of each entry's independent errors, by name; zero where none was kept.

    Errors are standard deviations. Each entry has one of at least this share of its tensor's root
    mean square; a tensor without a mask was kept whole.
    """
    told, found = list(errors), {}
    for name, tensor in tensors.items():
        size = tensor.double().square().mean().sqrt()
        variance = (least * size).square().expand_as(tensor)
        for one in told:
            if name in one:
                variance = variance + one[name].square()
        known = torch.where(variance > 0, 1 / variance, 0)
        found[name] = torch.where(kept[name], known, 0) if name in kept else known
    return found


class Jacobian:
    """Derivative in the unknowns of a loss's gradient in the weights, both as they are here.

    Or of what is made of that gradient.
    """

    def __init__(
        self,
        loss: Loss,
        weights: Mapping[str, Tensor],
        at: Unknowns,
        then: Callable[[Gradient], Gradient] | None = None,
    ) -> None:
        weights = {name: tensor.detach() for name, tensor in weights.items()}
        self.at = at

        def in_weights(x: Unknowns) -> Gradient:
            return grad(loss, 0)(weights, x)

        def in_unknowns(w: Gradient) -> Unknowns:
            return grad(loss, 1)(w, at)

        with torch.no_grad():
            found = vjp(in_weights, at)
            self.gradient: Gradient = found[0]
            self._pull, self._push = found[1], vjp(in_unknowns, weights)[1]
            if then is not None:
                self._make(then)

    def _make(self, then: Callable[[Gradient], Gradient]) -> None:
        """Put what is made of the gradient in its place, and its derivative behind the products."""
        pull, push, before = self._pull, self._push, self.gradient
        there = vjp(then, before)
        self.gradient, back = there[0], there[1]
        forth = vjp(lambda given: back(given)[0], self.gradient)[1]  # linear: its own transpose
        self._pull = lambda given: pull(back(given)[0])
        self._push = lambda unknowns: forth(push(unknowns)[0])

    def push(self, unknowns: Unknowns) -> Gradient:
        """Return how the gradient changes along the unknowns: J v."""
        with torch.no_grad():
            return self._push(unknowns)[0]

    def pull(self, gradient: Mapping[str, Tensor]) -> Unknowns:
        """Return J^T u."""
        with torch.no_grad():
            return self._pull(dict(gradient))[0]

    def normal(
        self, precision: Mapping[str, Tensor], tick: Callable[[int], None] = lambda done: None
    ) -> Float[Tensor, "k k"]:
        """Return J^T S^-1 J, float64 and symmetric; S^-1 is one number an entry, by name."""
        found = self.weighed(precision, torch.eye(len(self.at)).to(self.at), tick)
        return (found + found.T) / 2

    def weighed(
        self,
        precision: Mapping[str, Tensor],
        directions: Float[Tensor, "n k"],
        tick: Callable[[int], None] = lambda done: None,
    ) -> Float[Tensor, "n k"]:
        """Return J^T S^-1 J v for each direction v, float64.

        Two backward passes a direction, those of `AT_ONCE` together.
        """

        def one(direction: Unknowns) -> Unknowns:
            pushed = self._push(direction)[0]
            return self._pull({name: t * precision[name] for name, t in pushed.items()})[0]

        found = torch.empty(directions.shape, dtype=torch.float64, device=self.at.device)
        for start in range(0, len(directions), AT_ONCE):
            end = min(start + AT_ONCE, len(directions))
            with torch.no_grad():
                found[start:end] = vmap(one)(directions[start:end].to(self.at))
            tick(end)
        return found
