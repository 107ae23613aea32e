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
from privbench.defenses._zeros import nonzero
from privbench.threat import Update


class Percentile(Defense):
    """NVFlare's PercentilePrivacy: small entries become zero, large ones are cut off.

    One threshold for all tensors, the percentile of all sizes. No noise, so no epsilon at all.
    """

    paper: ClassVar[str] = "doi:10.1145/2810103.2813687"
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls", "map")
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
        """Return the entries that are not zero: what was cut off still says its sign."""
        return nonzero({name: t for name, t in tensors.items() if t.ndim})

    def deviations(self, tensors: Mapping[str, Tensor], batch: int = 1) -> dict[str, Tensor]:
        """Return nothing for entries as they were; zeros lie below the smallest of all the others.

        What was cut off is taken for up to twice as large. A later factor moves the end with
        everything else, so it is read off: it occurs often.
        """
        own = [t.double().abs() for t in tensors.values() if t.ndim]
        sizes = torch.cat([one.flatten() for one in own])
        if not sizes.any():
            return {}
        low, top = sizes[sizes > 0].min(), sizes.max()
        cut = int((sizes == top).sum()) > 1

        def one(tensor: Tensor) -> Tensor:
            size = tensor.double().abs()
            lost = torch.where(size == top, top * cut * bool(tensor.ndim), 0.0)
            return torch.where(size == 0, low, lost) / 3**0.5

        return {name: one(tensor) for name, tensor in tensors.items()}

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
