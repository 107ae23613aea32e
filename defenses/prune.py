"""Gradient pruning (Lin et al., ICLR 2018; as a defense: Zhu et al., NeurIPS 2019)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Generator, Tensor

from privbench.defense import Defense
from privbench.threat import Update


class Prune(Defense):
    """Top-k pruning per tensor: only the entries of largest magnitude are shared.

    Without error feedback, which adds what was left out to the next update: a defense keeps
    nothing from one update to the next.
    """

    paper: ClassVar[str] = "arXiv:1712.01887"
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls")
    ratio: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the entries of each tensor that become zero."""

    def protect(self, update: Update, rng: Generator) -> Update:
        """Zero the smallest entries; at least one entry of a tensor stays."""
        pruned = {}
        for name, tensor in update.tensors.items():
            top = self._largest(tensor)
            kept = torch.zeros_like(tensor).flatten()
            kept[top] = tensor.flatten()[top]
            pruned[name] = kept.view_as(tensor)
        return Update(pruned, update.withheld)

    def measured(self, tensors: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, "..."]]:
        """Return the largest entries of each tensor, as many as were kept.

        Where fewer are not zero, a zero was among the largest: all are as the client had them.
        """
        found = {}
        for name, tensor in tensors.items():
            top = self._largest(tensor)
            if len(top) < tensor.numel() and (tensor.flatten()[top] != 0).all():
                kept = torch.zeros_like(tensor, dtype=torch.bool).flatten()
                kept[top] = True
                found[name] = kept.view_as(tensor)
        return found

    def _largest(self, tensor: Tensor) -> Tensor:
        keep = max(1, round(tensor.numel() * (1 - self.ratio)))
        return tensor.abs().flatten().topk(keep).indices
