"""Clipping of the update to a global norm."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Generator

from privbench.defense import Defense
from privbench.threat import Update


class Clip(Defense):
    """Global L2 clipping: the update is scaled down to a norm that it must not exceed."""

    paper: ClassVar[str] = "arXiv:1607.00133"
    norm: Annotated[float, Field(gt=0)] = 1.0

    def protect(self, update: Update, rng: Generator) -> Update:
        """Scale all tensors by one factor."""
        squares = [tensor.square().sum() for tensor in update.tensors.values()]
        total = torch.stack(squares).sum().sqrt()
        factor = (self.norm / total.clamp(min=self.norm)).item()
        return Update({n: t * factor for n, t in update.tensors.items()}, update.withheld)
