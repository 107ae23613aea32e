"""Scaling down to an L2 norm."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def factor(tensors: Iterable[Tensor], norm: float) -> float:
    """Return what brings tensors together down to an L2 norm; 1 if they are no longer than it."""
    # Wide, since squares of a large gradient are infinite in float32.
    squares = [tensor.double().square().sum() for tensor in tensors]
    return (norm / torch.stack(squares).sum().sqrt().clamp(min=norm)).item()


def clipped(gradients: Mapping[str, Tensor], norm: float) -> dict[str, Tensor]:
    """Scale each example's gradient down to an L2 norm over all tensors, if it is longer."""
    # Wide, since squares of a large gradient are infinite in float32.
    squares = [t.double().flatten(1).square().sum(1) for t in gradients.values()]
    factors = norm / torch.stack(squares).sum(0).sqrt().clamp(min=norm)
    return {n: torch.einsum("b,b...->b...", factors.to(t), t) for n, t in gradients.items()}


def on_the_gradient(
    errors: Mapping[str, Tensor], gradient: Mapping[str, Tensor], norm: float
) -> dict[str, Tensor]:
    """Return errors of a clipped update as they weigh on the gradient, which was longer."""
    scale = factor(gradient.values(), norm) if gradient else 1.0
    return {name: error / scale for name, error in errors.items()}
