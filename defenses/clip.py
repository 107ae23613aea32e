"""Clipping of the update to a norm."""

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from privbench.defense import Defense
from privbench.threat import Update


class Clip(Defense):
    """L2 clipping: the update is scaled down to a norm that it must not exceed.

    A positive factor hides nothing: attacks fit it.
    """

    paper: ClassVar[str] = "arXiv:1607.00133"
    version: ClassVar[int] = 2
    norm: Annotated[float, Field(gt=0)] = 1.0
    of: Literal["update", "tensor"] = "update"
    """What must not exceed the norm: all tensors together, or each by itself."""

    def protect(self, update: Update, rng: Generator) -> Update:
        """Scale all tensors by one factor, or each by its own."""
        tensors = update.tensors
        whole = self._factor(tensors.values())
        clipped = {
            name: tensor * (self._factor([tensor]) if self.by_tensor else whole)
            for name, tensor in tensors.items()
        }
        return Update(clipped, update.withheld)

    @property
    def by_tensor(self) -> bool:
        """Whether each tensor is clipped by itself."""
        return self.of == "tensor"

    def _factor(self, tensors: Iterable[Tensor]) -> float:
        # Wide, since squares of a large gradient are infinite in float32.
        squares = [tensor.double().square().sum() for tensor in tensors]
        return (self.norm / torch.stack(squares).sum().sqrt().clamp(min=self.norm)).item()
