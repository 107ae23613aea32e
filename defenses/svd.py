"""Truncated singular value decompositions (after SVDefense, Luo et al., NDSS 2026)."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor

from privbench.defense import Defense
from privbench.threat import Update


class Svd(Defense):
    """Every matrix of the update keeps its largest singular values, up to a share of the energy.

    A kernel of a convolution is a matrix of outputs by the rest, the position table one of places
    by width; vectors stay. Of SVDefense, this is the truncation alone: its threshold adapts to the
    client's label counts, and its channel weights are not public yet. It names no deviations: what
    is left out lies off the spans that stay, so no entry has an error of its own.
    """

    paper: ClassVar[str] = "arXiv:2510.03319"
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls")
    energy: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Least share of the squared norm that stays, by as few singular values as that takes."""

    def protect(self, update: Update, rng: Generator) -> Update:
        """Truncate each tensor that is a matrix."""
        low = {name: self._truncated(tensor) for name, tensor in update.tensors.items()}
        return Update(low, update.withheld)

    def _truncated(self, tensor: Tensor) -> Tensor:
        sides = [side for side in tensor.shape if side > 1]
        if len(sides) < 2:
            return tensor.clone()
        u, s, vh = torch.linalg.svd(tensor.double().reshape(sides[0], -1), full_matrices=False)
        shares = s.square().cumsum(0) / s.square().sum()
        # one more than those that together fall short; rounding must not ask for more than all
        rank = min(int((shares < self.energy).sum()) + 1, len(s))
        return ((u[:, :rank] * s[:rank]) @ vh[:rank]).view_as(tensor).to(tensor)
