"""Quantization by stochastic rounding (QSGD, Alistarh et al., NeurIPS 2017)."""

from collections.abc import Mapping
from math import expm1
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor

from privbench.defense import Defense
from privbench.threat import Update


class Quantize(Defense):
    """Few levels for each tensor: entries are rounded at random, right on average.

    With b bits, 2^(b-1) - 1 evenly spaced sizes of each sign, and zero; one bit leaves the two ends
    alone. The levels can be counted in the update, and so can their distance.
    """

    paper: ClassVar[str] = "arXiv:1610.02132"
    version: ClassVar[int] = 2
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls")
    bits: Annotated[int, Field(ge=1, le=8)] = 4
    """Of each entry, its sign among them."""
    ends: Literal["max", "norm"] = "max"
    """What the outermost levels stand for: the tensor's largest size, or its L2 norm as in QSGD's
    analysis."""

    def protect(self, update: Update, rng: Generator) -> Update:
        """Round every entry up or down, the nearer level with more chance."""
        rounded = {name: self._rounded(t, rng) for name, t in update.tensors.items()}
        return Update(rounded, update.withheld)

    def _rounded(self, tensor: Tensor, rng: Generator) -> Tensor:
        wide = tensor.double()
        end = wide.abs().max() if self.ends == "max" else wide.norm()
        if not end:
            return tensor.clone()
        chance = torch.rand(tensor.shape, generator=rng, dtype=torch.float64).to(wide)
        if self.bits == 1:
            signs = torch.where(chance < (1 + wide / end) / 2, 1.0, -1.0)
            return (end * signs).to(tensor)
        levels = 2 ** (self.bits - 1) - 1
        place = levels * wide.abs() / end
        whole = place.floor() + (chance < place.frac())
        return (wide.sign() * whole * end / levels).to(tensor)

    def deviations(
        self, tensors: Mapping[str, Tensor], batch: int = 1
    ) -> dict[str, Float[Tensor, "..."]]:
        """Return that of rounding at random between two levels, the same for all of a tensor.

        An entry at a share f of a step of width w has the variance w^2 f (1 - f). Sizes are taken
        to fall off exponentially from zero; their mean m is that of the shared ones, as rounding
        is right on average: then it is w m - 2 m^2 + 2 m w / (exp(w / m) - 1), w^2 / 6 for fine
        steps. By shared entries instead of their tensor, zeros would seem known best, and bias.
        """
        return {
            n: t.new_full(t.shape, self._off(t.double().abs())).double() for n, t in tensors.items()
        }

    def _off(self, size: Tensor) -> float:
        end, mean = float(size.max()), float(size.mean())
        if not end or self.bits == 1:  # nothing but the ends: off by about as much
            return end
        levels = 2 ** (self.bits - 1) - 1
        step = end / levels if self.ends == "max" else float(size[size > 0].min())
        rest = 2 * mean * step / expm1(min(step / mean, 700.0))
        return max(step * mean - 2 * mean**2 + rest, 0.0) ** 0.5
