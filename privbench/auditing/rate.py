"""Reads the learning rate off the head: its features and probabilities need no scale."""

from dataclasses import dataclass

from privbench.auditing.update import Difference
from privbench.vit import ViT

FITS = 0.05
"""Relative misfit up to which one plain SGD step explains the head's bias."""


@dataclass(frozen=True)
class Rate:
    """What the head's difference is a multiple of."""

    factor: float
    """The difference over the gradient of one picture."""
    misfit: float
    """Relative distance of the difference from that multiple."""

    @property
    def fits(self) -> bool:
        """Whether one step of plain SGD on one picture explains it."""
        return self.misfit <= FITS and self.factor > 0


def read_rate(vit: ViT, update: Difference, batch: int) -> Rate | None:
    """Return by what the update is larger than the gradient; None where the head tells nothing.

    For one picture the rows of the head's weights are the features times the bias's entries, so
    features, and with them the probabilities q, follow without any scale; the bias's gradient is
    q minus the label.
    """
    shared = update.tensors
    if batch != 1 or len(vit.heads) != 1 or not {ViT.HEAD, ViT.HEAD_BIAS} <= shared.keys():
        return None
    head = vit.heads[0]
    rows, bias = shared[ViT.HEAD].double(), shared[ViT.HEAD_BIAS].double()
    feature = rows.T @ bias / bias.square().sum()
    logits = head.weight.detach().double().cpu() @ feature + head.bias.detach().double().cpu()
    slope = logits.softmax(0)
    slope[bias.argmin()] -= 1
    size = slope.square().sum()
    if not float(size):
        return None
    factor = float(bias @ slope / size)
    misfit = float((bias - factor * slope).norm() / bias.norm())
    return Rate(factor, misfit)
