"""Rounding of the update to a shorter floating-point format."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator

from privbench.defense import Defense
from privbench.threat import Update

FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Round(Defense):
    """Rounding to bfloat16 or float16, as mixed-precision clients share their updates."""

    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls")
    format: Literal["bf16", "fp16"] = "bf16"
    loss_scale: Annotated[float, Field(gt=0)] = 1024.0
    """Factor that keeps float16 from underflow, divided out again; bfloat16 does not need it."""

    def protect(self, update: Update, rng: Generator) -> Update:
        """Round every entry."""
        scale = self.loss_scale if self.format == "fp16" else 1.0
        rounded = {
            name: (tensor * scale).to(FORMATS[self.format]).to(tensor) / scale
            for name, tensor in update.tensors.items()
        }
        return Update(rounded, update.withheld)
