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

AT_LEVEL = 0.798
"""Variance over h w of a Gaussian error that tells as much of an entry on a level, known to h, as
its rounding does: 2 phi(0). Both levels beside it have the chance phi(0) h / w and slopes of half a
step."""
ROUNDS = 20
"""How often h and the variances are made to agree; each brings them twice as near."""


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

    def deviations_at(
        self, gradient: Mapping[str, Tensor], tensors: Mapping[str, Tensor], share: float
    ) -> dict[str, Float[Tensor, "..."]]:
        """Return w times the root of f (1 - f) for each entry, which needs its place f.

        One over its square is the Fisher information of the two levels' chances, so a Gaussian
        error of that size tells as much. At a level that has no end, but who knows an entry to h
        only sees chances that are smooth over h: a level then tells no more than `AT_LEVEL` h w.
        """
        found = self.deviations(tensors)
        for name, plain in gradient.items():
            if step := self._step(tensors[name].double().abs()):
                above = 0.5 if self.bits == 1 else 0.0  # whose two levels lie around zero
                place = (plain.double().abs() / step + above).frac()
                found[name] = step * _smooth(place * (1 - place), share).sqrt()
        return found

    def _off(self, size: Tensor) -> float:
        step, mean = self._step(size), float(size.mean())
        if not step or self.bits == 1:  # nothing but the ends: off by about as much
            return step / 2
        rest = 2 * mean * step / expm1(min(step / mean, 700.0))
        return max(step * mean - 2 * mean**2 + rest, 0.0) ** 0.5

    def _step(self, size: Tensor) -> float:
        """Return how far levels are apart, as the sizes of shared entries tell; zero of zeros."""
        end = float(size.max())
        if not end or self.bits == 1:
            return 2 * end
        return (
            end / (2 ** (self.bits - 1) - 1) if self.ends == "max" else float(size[size > 0].min())
        )


def _smooth(variance: Tensor, share: float) -> Tensor:
    """Return variances of rounding, in squared steps, for whoever knows entries to within h.

    All entries together fix the unknowns: one over the variance adds up to `share` over h^2.
    """
    least = 0.25
    for _ in range(ROUNDS):
        known = 1 / (1 / variance.clamp(min=least)).mean()
        least = min(AT_LEVEL * float(min(share, 1.0) * known) ** 0.5, 0.25)
    return variance.clamp(min=least)
