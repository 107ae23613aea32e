"""Gradient pruning (Lin et al., ICLR 2018; as a defense: Zhu et al., NeurIPS 2019)."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Generator

from privbench.defense import Defense
from privbench.threat import Update


class Prune(Defense):
    """Top-k pruning per tensor: only the entries of largest magnitude are shared."""

    paper: ClassVar[str] = "arXiv:1712.01887"
    ratio: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the entries of each tensor that become zero."""

    def protect(self, update: Update, rng: Generator) -> Update:
        """Zero the smallest entries; at least one entry of a tensor stays."""
        pruned = {}
        for name, tensor in update.tensors.items():
            keep = max(1, round(tensor.numel() * (1 - self.ratio)))
            top = tensor.abs().flatten().topk(keep).indices
            kept = torch.zeros_like(tensor).flatten()
            kept[top] = tensor.flatten()[top]
            pruned[name] = kept.view_as(tensor)
        return Update(pruned, update.withheld)
