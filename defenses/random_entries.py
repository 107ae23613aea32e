"""Random binary weights (Sawada, Imaizumi and Kiya, 2024)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Generator, Tensor

from privbench.defense import Defense
from privbench.defenses._zeros import nonzero
from privbench.seeds import generator
from privbench.threat import Update


class RandomEntries(Defense):
    """Entries chosen at random are shared, the others are zero, whatever their size.

    A fixed mask belongs to a client and hides the same entries in every round; under a fresh one
    the rounds together show them all. What is shared is exact, and zeros can be seen.
    """

    paper: ClassVar[str] = "arXiv:2409.19988"
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls", "map")
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Chance of each entry to be shared."""
    mask: Literal["fixed", "fresh"] = "fixed"
    seed: int = 0
    """Of the fixed mask."""

    def protect(self, update: Update, rng: Generator) -> Update:
        """Multiply every entry by zero or one."""
        found = {}
        for name, tensor in update.tensors.items():
            own = generator("random_entries", self.seed, name) if self.mask == "fixed" else rng
            kept = torch.rand(tensor.shape, generator=own).to(tensor.device) < self.share
            found[name] = torch.where(kept, tensor, 0)
        return Update(found, update.withheld)

    def measured(self, tensors: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, "..."]]:
        """Return the entries that are not zero."""
        return nonzero(tensors)

    def deviations(self, tensors: Mapping[str, Tensor], batch: int = 1) -> dict[str, Tensor]:
        """Return nothing for shared entries; the others are as large as those."""
        found = {}
        for name, tensor in tensors.items():
            kept = tensor != 0
            size = tensor.double().square().sum() / kept.sum().clamp(min=1)
            found[name] = torch.where(kept, 0.0, size.sqrt())
        return found
