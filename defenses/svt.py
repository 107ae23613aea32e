"""Sparse vector technique (Lyu et al., VLDB 2017), as NVIDIA FLARE's filter has it."""

from collections.abc import Mapping
from math import ceil, exp, expm1, log, sqrt
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Generator, Tensor

from privbench.accounting import Privacy, check_delta
from privbench.defense import Defense
from privbench.defenses._laplace import laplace
from privbench.defenses._zeros import nonzero
from privbench.errors import BadSetting
from privbench.threat import Update

MOST = 50
"""Half of the rounds of the choice that are waited for; each takes a second for 10^7 entries."""


class Svt(Defense):
    """NVFlare's SVTPrivacy: a share of the entries, chosen and released under Laplace noise.

    Entries are cut to gamma. Those whose size with noise is above a threshold with noise are
    candidates; of them a share of all entries is drawn and released with noise of its own.
    """

    paper: ClassVar[str] = "arXiv:1603.01699"
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls")
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the entries that is drawn; the others are zero."""
    epsilon: Annotated[float, Field(gt=0)] = 0.1
    """Budget of the choice alone."""
    noise_var: Annotated[float, Field(gt=0)] = 0.1
    """Budget of each released entry: its noise has the scale 2 * gamma / noise_var."""
    gamma: Annotated[float, Field(gt=0)] = 1e-5
    """Largest size of an entry, in units of what is shared."""
    tau: float = 1e-6
    """Threshold before its noise."""
    replace: bool = True
    """Whether entries are drawn with replacement, so that fewer of them are distinct."""

    def protect(self, update: Update, rng: Generator) -> Update:
        """Choose, draw and release; single numbers pass as they are."""
        names = sorted(update.tensors)
        flat = torch.cat([update.tensors[n].double().flatten() for n in names])
        cut = flat.clamp(-self.gamma, self.gamma)
        wanted = self._wanted(len(flat))
        threshold_part, query_part = self._split(wanted)
        threshold = self.tau + (self.gamma / threshold_part * laplace([1], rng)).to(cut)
        accepted = torch.zeros_like(cut, dtype=torch.bool)
        scale = 2 * self.gamma * wanted / query_part
        least = exp(min(0.0, float(self.gamma - threshold) / scale))  # chance of the largest, twice
        if wanted > MOST * len(flat) * least:
            raise BadSetting(
                f"svt: with tau={self.tau:g} hardly any entry comes above the threshold, whose "
                f"noise is of size {scale:.2g}, so the choice would never end. Choose a smaller "
                "tau."
            )
        while int(accepted.sum()) < wanted:
            noise = (scale * laplace([len(cut)], rng)).to(cut)
            accepted |= cut.abs() + noise >= threshold
        candidates = accepted.nonzero().flatten()
        if self.replace:
            drawn = torch.randint(len(candidates), (wanted,), generator=rng)
        else:
            drawn = torch.randperm(len(candidates), generator=rng)[:wanted]
        chosen = candidates[drawn.to(candidates.device)]
        noise = (2 * self.gamma / self.noise_var * laplace([len(cut)], rng)).to(cut)
        released = torch.zeros_like(cut)
        released[chosen] = (cut + noise)[chosen]
        parts = released.split([update.tensors[n].numel() for n in names])
        found = {n: p.view_as(update.tensors[n]) for n, p in zip(names, parts, strict=True)}
        return Update(
            {n: found[n].to(t) if t.ndim else t.clone() for n, t in update.tensors.items()},
            update.withheld,
        )

    def measured(self, tensors: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, "..."]]:
        """Return the released entries."""
        return nonzero({name: tensor for name, tensor in tensors.items() if tensor.ndim})

    def deviations(self, tensors: Mapping[str, Tensor], batch: int = 1) -> dict[str, Tensor]:
        """Return the noise of released entries; the others lie anywhere up to gamma."""
        noise = 2**0.5 * 2 * self.gamma / self.noise_var
        rest = self.gamma / 3**0.5
        return {n: torch.where(t != 0, noise, rest).double() for n, t in tensors.items()}

    def deviations_at(
        self, gradient: Mapping[str, Tensor], tensors: Mapping[str, Tensor], share: float
    ) -> dict[str, Tensor]:
        """Return no end of them for entries that were cut: how large they were, nothing tells."""
        found = self.deviations(tensors)
        for name in found.keys() & gradient.keys():
            found[name] = found[name].masked_fill(gradient[name].abs() > self.gamma, torch.inf)
        return found

    def privacy(self, entries: int, delta: float) -> Privacy:
        """Return what choice and release cost together; its setting counts the choice alone.

        The proof lets the choice stop after as many candidates as are wanted. The filter goes on
        to the last entry, and each further candidate costs its part again. Releases add up by
        simple or by advanced composition (Dwork and Roth, theorem 3.20), whichever is less.
        """
        check_delta(delta)
        wanted, own = self._wanted(entries), self.noise_var
        threshold_part, query_part = self._split(wanted)
        simple = wanted * own
        growth = expm1(own) if own < log(1e300) else exp(log(1e300))
        advanced = sqrt(2 * wanted * log(1 / delta)) * own + wanted * own * growth
        choice = threshold_part + query_part * entries / wanted
        return Privacy("update", choice + min(simple, advanced), claimed=self.epsilon)

    def _wanted(self, entries: int) -> int:
        return min(ceil(self.fraction * entries), entries)

    def _split(self, wanted: int) -> tuple[float, float]:
        """Split the budget of the choice between threshold and queries as 1 to (2 c)^(2/3)."""
        threshold = self.epsilon / (1 + (2 * wanted) ** (2 / 3))
        return threshold, self.epsilon - threshold
