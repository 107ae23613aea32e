"""Laplace noise."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def laplace(shape: Sequence[int], rng: Generator) -> Tensor:
    """Draw noise of scale one, float64: the difference of two exponential variables."""
    one, other = torch.rand((2, *shape), generator=rng, dtype=torch.float64)
    return torch.log1p(-one) - torch.log1p(-other)
