"""Only the signs of the update (signSGD, Bernstein et al., ICML 2018)."""

from typing import ClassVar

from torch import Generator

from privbench.defense import Defense
from privbench.threat import Update


class Sign(Defense):
    """Signs instead of numbers: every entry is -1, 0 or 1.

    Scaled, each tensor keeps its mean size (EF-signSGD, arXiv:1901.09847). It names no deviations:
    a sign leaves half a line open, and how far along it an entry lies goes with the entry itself.
    """

    paper: ClassVar[str] = "arXiv:1802.04434"
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls")
    scaled: bool = False
    """Whether signs are multiplied by the mean size of their tensor's entries."""

    def protect(self, update: Update, rng: Generator) -> Update:
        """Replace every entry by its sign; no randomness is needed."""
        signs = {}
        for name, tensor in update.tensors.items():
            size = tensor.double().abs().mean().to(tensor) if self.scaled else 1.0
            signs[name] = size * tensor.sign()
        return Update(signs, update.withheld)

    @property
    def by_tensor(self) -> bool:
        """Whether the tensors' sizes are lost, so that none of them is evidence."""
        return not self.scaled
