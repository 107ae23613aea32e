"""Pictures completed to be smooth: the prior that asks least."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from privbench.attacks._linear.ambiguity import Ambiguity
from privbench.attacks._linear.smooth import conjugate_gradients
from privbench.patches import join

STEPS, TOLERANCE = 200, 1e-6
"""At most so many conjugate gradients, down to this share of the right side; set by reason."""


def complete(
    open_: Ambiguity,
    patch: int,
    start: Float[Tensor, "n k"],
    fixed: Bool[Tensor, " n"],
    unplaced: Bool[Tensor, " n"],
) -> Float[Tensor, "n k"]:
    """Coordinates of least mean squared neighbor difference, by conjugate gradients.

    Fixed rows keep their start. The place of unplaced patches means nothing: their seams do not
    count, and they keep their start, too.
    """
    free = ~(fixed | unplaced)
    if not free.any() or not len(open_.basis):
        return start
    energy = _Energy(open_, patch, *_seams(unplaced, patch), free[:, None])
    zero = torch.zeros_like(start)
    flat = energy.slope(zero)  # the energy is quadratic: without this, slopes are linear
    return start + conjugate_gradients(
        lambda p: energy.slope(p) - flat,
        -energy.slope(start),
        zero,
        lambda r: r,
        steps=STEPS,
        tolerance=TOLERANCE,
    )


@dataclass(frozen=True)
class _Energy:
    """Sum of squared neighbor differences."""

    open_: Ambiguity
    patch: int
    down: Tensor
    across: Tensor
    free: Bool[Tensor, "n 1"]

    def slope(self, coefficients: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        with torch.enable_grad():
            coefficients = coefficients.detach().requires_grad_()
            picture = join(self.open_.patches(coefficients)[None], self.patch)
            rough = (picture.diff(dim=2).square() * self.down).sum()
            rough = rough + (picture.diff(dim=3).square() * self.across).sum()
            return torch.autograd.grad(rough, coefficients)[0] * self.free


def _seams(unplaced: Bool[Tensor, " n"], patch: int) -> tuple[Tensor, Tensor]:
    """One for each pair of pixels that are really neighbors."""
    grid = round(len(unplaced) ** 0.5)
    loose = unplaced.view(grid, grid).repeat_interleave(patch, 0).repeat_interleave(patch, 1)
    cell = torch.arange(grid * patch, device=loose.device) // patch
    seam = cell[1:] != cell[:-1]
    down = ~((loose[1:] | loose[:-1]) & seam[:, None])
    across = ~((loose[:, 1:] | loose[:, :-1]) & seam)
    return down.double(), across.double()
