"""Largest percentile to share (Shokri and Shmatikov, CCS 2015), as NVIDIA FLARE's filter has it."""

from collections.abc import Mapping
from math import inf
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Generator, Tensor

from privbench.accounting import Privacy
from privbench.defense import Defense
from privbench.threat import Update


class Percentile(Defense):
    """NVFlare's PercentilePrivacy: small entries become zero, large ones are cut off.

    One threshold for all tensors, the percentile of all sizes. No noise, so no epsilon at all.
    """

    paper: ClassVar[str] = "doi:10.1145/2810103.2813687"
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls")
    percentile: Annotated[float, Field(ge=0, lt=100)] = 10.0
    """Of all entries by size, below which they are zero."""
    gamma: Annotated[float, Field(gt=0)] = 0.01
    """Largest size of an entry, in units of what is shared: FLARE shares changes of weights, which
    are the learning rate times as large as a gradient."""

    def protect(self, update: Update, rng: Generator) -> Update:
        """Zero what is below the threshold and cut the rest; single numbers stay."""
        tensors = update.tensors
        sizes = torch.cat([t.double().abs().flatten() for t in tensors.values()])
        cutoff = _percentile(sizes, self.percentile)

        def one(tensor: Tensor) -> Tensor:
            kept = torch.where(tensor.double().abs() < cutoff, 0, tensor)
            return kept.clamp(-self.gamma, self.gamma)

        found = {name: one(t) if t.ndim else t.clone() for name, t in tensors.items()}
        return Update(found, update.withheld)

    def measured(self, tensors: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, "..."]]:
        """Return the entries that are neither zero nor cut: those are as the client had them.

        A later factor moves the end with everything else, so it is read off: it occurs often.
        """
        own = {name: tensor for name, tensor in tensors.items() if tensor.ndim}
        top = max((float(t.abs().max()) for t in own.values() if t.numel()), default=0.0)
        cut = sum(int((t.abs() == top).sum()) for t in own.values()) > 1
        kept = {n: (t != 0) & ~((t.abs() == top) & cut) for n, t in own.items()}
        return {name: mask for name, mask in kept.items() if not mask.all()}

    def privacy(self, entries: int, delta: float) -> Privacy:
        """Return that it has no guarantee."""
        return Privacy("update", inf)


def _percentile(values: Tensor, share: float) -> Tensor:
    """Return what numpy's percentile does; torch's quantile stops at 16 million values."""
    place = share / 100 * (len(values) - 1)
    low = int(place)
    below = values.kthvalue(low + 1).values
    above = values.kthvalue(min(low + 2, len(values))).values
    return below + (above - below) * (place - low)
