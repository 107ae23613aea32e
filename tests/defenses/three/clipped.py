"""Differentially private SGD's step: clipped examples and noise (Abadi et al., CCS 2016)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor

from privbench.defense import Defense


class Clipped(Defense):
    """Per-example clipping: each example's gradient is clipped, and the sum gets Gaussian noise."""

    paper: ClassVar[str] = "arXiv:1607.00133"
    norm: Annotated[float, Field(gt=0)] = 1.0
    """That an example's gradient must not exceed, over all tensors."""
    sigma: Annotated[float, Field(ge=0)] = 0.01
    """Of the noise on the sum, in units of the norm."""

    @property
    def per_example(self) -> bool:
        """Ask for the examples' gradients."""
        return True

    def combine(self, gradients: Mapping[str, Tensor], rng: Generator) -> dict[str, Tensor]:
        """Clip, sum, add noise, and divide by the number of examples."""
        rows = [tensor.flatten(1) for tensor in gradients.values()]
        norms = torch.stack([row.square().sum(1) for row in rows]).sum(0).sqrt()
        factors = self.norm / norms.clamp(min=self.norm)
        combined = {}
        for name, tensor in gradients.items():
            total = torch.tensordot(factors, tensor, dims=1)
            noise = torch.randn(total.shape, generator=rng).to(total)
            combined[name] = (total + self.sigma * self.norm * noise) / len(tensor)
        return combined
