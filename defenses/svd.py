"""Truncated singular value decompositions (after SVDefense, Luo et al., NDSS 2026)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor

from privbench.defense import Defense, LowRank
from privbench.threat import Update

THERE = 1e-5
"""Share of the largest singular value above which one was kept: float32 leaves 1e-7 of others."""


class Svd(Defense):
    """Every matrix of the update keeps its largest singular values, up to a share of the energy.

    A kernel of a convolution is a matrix of outputs by the rest, the position table one of places
    by width; vectors stay. Of SVDefense, this is the truncation alone: its threshold adapts to the
    client's label counts, and its channel weights are not public yet. It names no deviations: what
    is left out lies off the spans that stay, so no entry has an error of its own.
    """

    paper: ClassVar[str] = "arXiv:2510.03319"
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls", "map")
    energy: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Least share of the squared norm that stays, by as few singular values as that takes."""

    def protect(self, update: Update, rng: Generator) -> Update:
        """Truncate each tensor that is a matrix."""
        low = {name: self._truncated(tensor) for name, tensor in update.tensors.items()}
        return Update(low, update.withheld)

    def low_rank(self, tensors: Mapping[str, Tensor]) -> dict[str, LowRank]:
        """Return the singular vectors that stayed, and how much energy may be missing.

        The last value that stayed was needed to come up to the share of the energy: that bounds
        what is missing from both sides, and the middle is returned.
        """
        found = {}
        for name, tensor in tensors.items():
            if (matrix := _matrix(tensor)) is None:
                continue
            u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
            rank = int((s > THERE * s[0]).sum())
            if not rank or rank == len(s) or self.energy == 1:
                continue
            kept, last = float(s[:rank].square().sum()), float(s[rank - 1].square())
            most = kept * (1 / self.energy - 1)
            least = max(most - last / self.energy, 0.0)
            rest = ((most + least) / 2 / kept) ** 0.5
            found[name] = LowRank(u[:, :rank], vh[:rank].T, rest)
        return found

    def _truncated(self, tensor: Tensor) -> Tensor:
        matrix = _matrix(tensor)
        if matrix is None:
            return tensor.clone()
        u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
        shares = s.square().cumsum(0) / s.square().sum()
        # one more than those that together fall short; rounding must not ask for more than all
        rank = min(int((shares < self.energy).sum()) + 1, len(s))
        return ((u[:, :rank] * s[:rank]) @ vh[:rank]).view_as(tensor).to(tensor)


def _matrix(tensor: Tensor) -> Float[Tensor, "o f"] | None:
    """Return what is decomposed, float64; None for a vector."""
    sides = [side for side in tensor.shape if side > 1]
    return tensor.double().reshape(sides[0], -1) if len(sides) > 1 else None
