"""Rounding of the update to a shorter floating-point format."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor

from privbench.defense import Defense
from privbench.threat import Update
from privbench.wire import ulp

FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}

WALL = 0.5536
"""One over the integral of phi^2 / (Phi (1 - Phi)), of a standard normal's density and chance."""


class Round(Defense):
    """Rounding to bfloat16 or float16, as mixed-precision clients share their updates."""

    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls")
    format: Literal["bf16", "fp16"] = "bf16"
    loss_scale: Annotated[float, Field(gt=0)] = 1024.0
    """Factor that keeps float16 from underflow, divided out again; bfloat16 does not need it."""

    def protect(self, update: Update, rng: Generator) -> Update:
        """Round every entry."""
        rounded = {
            name: (tensor * self._scale).to(FORMATS[self.format]).to(tensor) / self._scale
            for name, tensor in update.tensors.items()
        }
        return Update(rounded, update.withheld)

    def deviations(
        self, tensors: Mapping[str, Tensor], batch: int = 1
    ) -> dict[str, Float[Tensor, "..."]]:
        """Return that of an error uniform over one step of the format."""
        step = {n: ulp(t * self._scale, FORMATS[self.format]) for n, t in tensors.items()}
        return {name: size / (12**0.5 * self._scale) for name, size in step.items()}

    def deviations_at(
        self, gradient: Mapping[str, Tensor], tensors: Mapping[str, Tensor], share: float
    ) -> dict[str, Float[Tensor, "..."]]:
        """Return less where there are many entries: no error is larger than half a step.

        Who knows an entry to h sees where its step w ends as one sees the threshold of a coin, and
        a Gaussian error of variance `WALL` h w tells as much. That is `share` over h^2 for all.
        """
        shrink = min(1.0, (12 * share) ** 0.5 * WALL)
        return {name: shrink * error for name, error in self.deviations(tensors).items()}

    @property
    def _scale(self) -> float:
        return self.loss_scale if self.format == "fp16" else 1.0
