"""Pieces of gradient matching: how far two updates are apart, and how rough a picture is."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from privbench.threat import Images

Gradient = Mapping[str, Tensor]


def squared(found: Gradient, shared: Gradient) -> Float[Tensor, ""]:
    """Sum of squared differences over all shared tensors (DLG, eq. 4)."""
    return torch.stack([(found[n] - t).square().sum() for n, t in shared.items()]).sum()


def cosine(found: Gradient, shared: Gradient) -> Float[Tensor, ""]:
    """One minus the cosine of the angle between two whole gradients (Geiping et al., eq. 4)."""
    dot = torch.stack([(found[n] * t).sum() for n, t in shared.items()]).sum()
    own = torch.stack([found[n].square().sum() for n in shared]).sum()
    theirs = torch.stack([t.square().sum() for t in shared.values()]).sum()
    return 1 - dot / (own * theirs).sqrt().clamp(min=torch.finfo(dot.dtype).tiny)


def total_variation(images: Images) -> Float[Tensor, ""]:
    """Mean absolute difference of neighboring pixels, down plus across."""
    return images.diff(dim=2).abs().mean() + images.diff(dim=3).abs().mean()


def relative(found: Gradient, shared: Gradient) -> Float[Tensor, ""]:
    """Mean over tensors of the squared distance in units of the tensor's own squared norm."""
    terms = [
        (found[n] - t).square().sum() / t.square().sum().clamp(min=torch.finfo(t.dtype).tiny)
        for n, t in shared.items()
    ]
    return torch.stack(terms).mean()


class TokenRows:
    """Rows of a position gradient, each compared in its own units.

    At and near initialization all rows are almost one vector, and what tells the patches apart
    is the small rest. Each row is split along the rows' main direction and beside it, and both
    parts are divided by their own size. Rows without gradient (masked, pruned) say nothing.
    """

    def __init__(self, rows: Float[Tensor, "n d"]) -> None:
        size = rows.norm(dim=1)
        self.alive = size > 1e-6 * size.max()
        rows = rows[self.alive]
        self.main = torch.linalg.svd(rows, full_matrices=False).Vh[0]
        self.along, self.beside = self._split(rows)
        floor = 1e-12 * rows.square().sum(1).max()
        self.along_unit = self.along.square().clamp(min=floor)
        self.beside_unit = self.beside.square().sum(1).clamp(min=floor)

    def _split(
        self, rows: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n d"]]:
        along = rows @ self.main
        return along, rows - along[:, None] * self.main

    def distance(self, found: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        """Mean over rows; zero where all rows are equal."""
        along, beside = self._split(found[self.alive])
        terms = (along - self.along).square() / self.along_unit
        return (terms + (beside - self.beside).square().sum(1) / self.beside_unit).mean()


def roughness(images: Images) -> Float[Tensor, ""]:
    """Mean squared difference of neighboring pixels, down plus across."""
    return images.diff(dim=2).square().mean() + images.diff(dim=3).square().mean()


def out_of_box(images: Images) -> Float[Tensor, ""]:
    """Mean squared excess over [0, 1]."""
    return (images - images.clamp(0, 1)).square().mean()
