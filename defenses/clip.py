"""Clipping of the update, or of each example's gradient, to a norm."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Generator, Tensor

from privbench.defense import Defense
from privbench.defenses._clipping import clipped, factor
from privbench.threat import Update


class Clip(Defense):
    """L2 clipping: the update is scaled down to a norm that it must not exceed.

    A positive factor hides nothing: attacks fit it. Clipped one by one, the examples of a batch
    have weights in their mean that nobody is told.
    """

    paper: ClassVar[str] = "arXiv:1607.00133"
    version: ClassVar[int] = 2
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls")
    norm: Annotated[float, Field(gt=0)] = 1.0
    of: Literal["update", "tensor", "example"] = "update"
    """What must not exceed the norm: all tensors together, each by itself, or every example's
    gradient before their mean is taken."""

    @property
    def per_example(self) -> bool:
        """Whether each example is clipped by itself."""
        return self.of == "example"

    def combine(self, gradients: Mapping[str, Tensor], rng: Generator) -> dict[str, Tensor]:
        """Clip each example's gradient, and take the mean."""
        return {name: tensor.mean(0) for name, tensor in clipped(gradients, self.norm).items()}

    def protect(self, update: Update, rng: Generator) -> Update:
        """Scale all tensors by one factor, or each by its own."""
        if self.per_example:
            return update
        tensors = update.tensors
        whole = factor(tensors.values(), self.norm)
        scaled = {
            name: tensor * (factor([tensor], self.norm) if self.by_tensor else whole)
            for name, tensor in tensors.items()
        }
        return Update(scaled, update.withheld)

    def deviations(self, tensors: Mapping[str, Tensor], batch: int = 1) -> dict[str, Tensor]:
        """Return nothing: a factor leaves no errors."""
        return {}

    @property
    def by_tensor(self) -> bool:
        """Whether each tensor is clipped by itself."""
        return self.of == "tensor"
