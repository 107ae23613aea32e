"""Dual gradient pruning (Xue et al., AAAI 2024)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Generator, Tensor

from privbench.defenses._feedback import FedBack
from privbench.errors import BadSetting
from privbench.threat import Update


class DualPruning(FedBack):
    """The largest and the smallest entries of every tensor become zero, what lies between stays.

    The paper adds what was left out to the next update; here only where `feedback` asks for it.
    Its shares are ours; the paper's were not available.
    """

    paper: ClassVar[str] = "arXiv:2401.16687"
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls", "map")
    largest: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the entries that are removed for their size."""
    smallest: Annotated[float, Field(ge=0, lt=1)] = 0.75
    """Share of the entries that are removed as too small."""
    feedback: bool = False
    """Whether a round's update gets what those before it left out; needs threat.rounds."""

    def __post_init__(self) -> None:
        """Refuse shares that leave nothing."""
        if self.largest + self.smallest >= 1:
            raise BadSetting(
                f"the largest {self.largest:g} and the smallest {self.smallest:g} of the "
                "entries are all of them. Choose shares with a sum below 1."
            )

    @property
    def feeds_back(self) -> bool:
        """Whether feedback is asked for."""
        return self.feedback

    def protect(self, update: Update, rng: Generator) -> Update:
        """Keep what lies between; at least one entry of a tensor stays."""
        found = {}
        for name, tensor in update.tensors.items():
            flat = tensor.flatten()
            first, last = self._bounds(len(flat))
            between = flat.abs().argsort(stable=True)[first:last]
            kept = torch.zeros_like(flat)
            kept[between] = flat[between]
            found[name] = kept.view_as(tensor)
        return Update(found, update.withheld)

    def _bounds(self, count: int) -> tuple[int, int]:
        """Places between which entries stay, when they are sorted by size."""
        last = max(1, count - round(self.largest * count))
        return min(round(self.smallest * count), last - 1), last

    def measured(self, tensors: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, "..."]]:
        """Return the entries that are not zero, where as many are as one round keeps.

        With feedback rounds may be joined, which keep more.
        """
        found = {}
        for name, tensor in tensors.items():
            first, last = self._bounds(tensor.numel())
            kept = tensor != 0
            count, joint = int(kept.sum()), self.feedback
            if count < tensor.numel() and (count == last - first or joint):
                found[name] = kept
        return found

    def deviations(self, tensors: Mapping[str, Tensor], batch: int = 1) -> dict[str, Tensor]:
        """Return nothing for shared entries; of the others the shares and bounds are known.

        The small ones lie anywhere below the smallest shared entry. Of the large ones nobody knows
        more than that they exceed the largest: they are taken for half as large again.
        """
        found = {}
        for name, tensor in tensors.items():
            kept = tensor != 0
            sizes = tensor.double().abs()
            low = sizes.masked_fill(~kept, torch.inf).min() if kept.any() else sizes.max()
            first, last = self._bounds(tensor.numel())
            above = tensor.numel() - last
            square = first * low.square() / 3 + above * (1.5 * sizes.max()).square()
            found[name] = torch.where(kept, 0.0, (square / max(first + above, 1)).sqrt())
        return found
