"""Gradient pruning (Lin et al., ICLR 2018; as a defense: Zhu et al., NeurIPS 2019)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Generator, Tensor

from privbench.defenses._feedback import FedBack
from privbench.threat import Update


class Prune(FedBack):
    """Top-k pruning per tensor: only the entries of largest magnitude are shared.

    With error feedback, whoever sees several rounds on one batch gets each entry's gradient exactly
    once the entry is shared: what it gathered is the gradient times the rounds that it took. The
    paper's correction for momentum, its clipping and its rising ratio are left out.
    """

    paper: ClassVar[str] = "arXiv:1712.01887"
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls", "map")
    ratio: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the entries of each tensor that become zero."""
    feedback: bool = False
    """Whether a round's update gets what those before it left out; needs threat.rounds."""

    @property
    def feeds_back(self) -> bool:
        """Whether feedback is asked for."""
        return self.feedback

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
        Joined rounds kept all that are not zero, and noise later on leaves no zero anywhere.
        """
        if self.feedback and not all(tensor.all() for tensor in tensors.values()):
            return {name: tensor != 0 for name, tensor in tensors.items() if not tensor.all()}
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
