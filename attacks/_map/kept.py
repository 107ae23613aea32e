"""Likelihood of a linear layer's gradient whose entries are not all known alike.

As in `spans`, rows of W = sum_i d_i a_i^T are Gaussian once the slopes d are integrated out, but
each row is known at places of its own, and its slopes may be told in part. A row that is known at
columns K with errors E has the covariance E + A_K^T C A_K, where C is that of a row's slopes over
tokens. C is fitted as a whole: slopes of tokens hang together so much that half of a row's tell
the rest to a fifth of its variance (one picture, trained `vit_vanilla`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from privbench.attacks._map.cut import Cut

ROUNDS = 10
"""Of expectation-maximization, at each stage."""
ALONE = 5.0
"""Rows that count for slopes that do not hang together; of 1 to 60 few are best at half the
entries."""
SMALLEST = 1e-12
"""Share of a matrix's trace that float64 may leave of an eigenvalue of zero; set by reason."""

Rows = Float[Tensor, "o f"]
Inputs = Float[Tensor, "t f"]
Many = Float[Tensor, "#o t t"]
"""One matrix for all rows, or one a row."""
Slopes = tuple[Float[Tensor, "t o"] | None, Many]
"""Means, and roots of covariances."""


@dataclass
class Kept:
    """A linear layer's gradient, or some rows of it, with the precision of each entry."""

    source: str
    """Module whose inputs it sums over."""
    rows: Rows
    """With the bias's gradient as the last column, where that was shared."""
    known: Rows
    """One over the variance of each entry's error; zero where nothing is known."""
    bias: bool
    """Whether that column is there."""
    told: Float[Tensor, "t o"] | None = None
    """Slopes that were shared themselves, where `sure` is above zero."""
    sure: Float[Tensor, "t o"] | None = None
    """One over the variance of their errors."""
    spread: Float[Tensor, "t t"] | None = None
    """Covariance of a row's slopes; None until it is fitted."""
    cut: Cut | None = None
    """Which of the rows' entries were left out for their size, if any."""
    untold: Cut | None = None
    """Which of the slopes were."""
    _made: tuple[tuple[Tensor | None, ...], Slopes] | None = field(default=None, init=False)
    """What `slopes` last came from, and what came of it."""

    @property
    def entries(self) -> int:
        """How many are known."""
        return int((self.known > 0).sum())

    def inputs(self, found: Mapping[str, Tensor]) -> Inputs:
        """Return what enters, and a one for the bias."""
        inputs = found[self.source].flatten(0, 1).double()
        return torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1) if self.bias else inputs

    def slopes(self) -> Slopes:
        """Return a row's slopes before it is seen: means, none where all are zero, and a root.

        The root F of a covariance F F^T is one for all rows where no slopes are told. All of it
        stays as it is from one fit to the next.
        """
        source = (self.spread, self.told, self.sure)
        if self._made is None or any(
            a is not b for a, b in zip(self._made[0], source, strict=True)
        ):
            self._made = source, self._factored()
        return self._made[1]

    def _factored(self) -> Slopes:
        assert self.spread is not None
        root = _cholesky(self.spread)
        if self.told is None or self.sure is None:
            return None, root[None]
        inner = root.T @ (self.sure.T[:, :, None] * root)
        inner = torch.linalg.cholesky(inner + torch.eye(len(root)).to(root))
        wanted = root.T @ (self.sure * self.told)  # t o
        means = root @ torch.cholesky_solve(wanted.T[..., None], inner)[..., 0].T
        return means, torch.linalg.solve_triangular(inner, root.T, upper=False).mT

    def cost(self, inputs: Inputs) -> Float[Tensor, ""]:
        """Minus the logarithm of the rows' likelihood, but for a constant."""
        means, roots = self.slopes()
        left = self.rows if means is None else self.rows - means.T @ inputs
        unexplained = _Unexplained.apply(*self._normal(inputs, left, roots))
        return (self.known * left.square()).sum() / 2 + unexplained

    def _normal(
        self, inputs: Inputs, left: Rows, roots: Many
    ) -> tuple[Float[Tensor, "o t t"], Float[Tensor, "o t 1"]]:
        """Return what rows say of slopes in units of their root: their precision, and pull."""
        if len(roots) == 1:
            inputs, roots = roots[0].T @ inputs, torch.eye(len(inputs)).to(inputs)[None]
        t = len(inputs)
        pairs = (inputs[:, None] * inputs).flatten(0, 1)  # tt f
        inner = (self.known @ pairs.T).unflatten(1, (t, t))
        wanted = (self.known * left) @ inputs.T
        if len(roots) > 1:
            inner = roots.mT @ inner @ roots
            wanted = (roots.mT @ wanted[..., None])[..., 0]
        return inner + torch.eye(t).to(inner), wanted[..., None]

    def fit(self, inputs: Inputs) -> None:
        """Fit the slopes' covariance by expectation-maximization."""
        if self.spread is None:
            self.spread = self._first(inputs)
        for _ in range(ROUNDS):
            means, roots = self.slopes()
            left = self.rows if means is None else self.rows - means.T @ inputs
            inner, wanted = self._normal(inputs, left, roots)
            inner = _cholesky(inner)
            found = roots @ torch.cholesky_solve(wanted, inner)  # o t 1
            inverse = roots @ torch.cholesky_inverse(inner) @ roots.mT
            at = found[..., 0] if means is None else found[..., 0] + means.T
            self._settle(inputs, at, inverse)
            alone = ALONE * torch.diag(self.spread.diagonal())
            self.spread = (at.T @ at + inverse.sum(0) + alone) / (len(self.rows) + ALONE)

    def _settle(
        self, inputs: Inputs, slopes: Float[Tensor, "o t"], doubts: Float[Tensor, "o t t"]
    ) -> None:
        """Let what is known of entries' sizes count, as slopes and their covariances predict."""
        if self.cut is not None:
            pairs = (inputs[:, None] * inputs).flatten(0, 1)  # tt f
            variance = doubts.flatten(1) @ pairs
            self.rows, self.known = self.cut.settle(
                slopes @ inputs, variance, self.rows, self.known
            )
        if self.untold is not None and self.told is not None and self.sure is not None:
            variance = doubts.diagonal(dim1=1, dim2=2).T
            self.told, self.sure = self.untold.settle(slopes.T, variance, self.told, self.sure)

    def _first(self, inputs: Inputs) -> Float[Tensor, "t t"]:
        """Return slopes of one size for all tokens, or of what was told of each."""
        if self.told is not None and self.sure is not None:
            count = (self.sure > 0).sum(1)
            power = (self.told.square() * (self.sure > 0)).sum(1)
            usual = power.sum() / count.sum()
            return torch.diag(torch.where(count > 0, power / count.clamp(min=1), usual))
        power = float((self.known * self.rows.square()).sum()) - self.entries
        power = max(power, 0.01 * self.entries)
        # a picture of the mean color is zero once normalized: then as of variance one
        size = float((self.known.sum(0) * inputs.square()).sum())
        size = max(size, float(self.known.sum()))
        return power / size * torch.eye(len(inputs)).to(inputs)


class _Unexplained(torch.autograd.Function):
    """(log det H - b^T H^-1 b) / 2, summed; its slopes need no way back through a Cholesky root."""

    @staticmethod
    def forward(ctx: Any, inner: Float[Tensor, "o t t"], wanted: Float[Tensor, "o t 1"]) -> Tensor:
        root = _cholesky(inner)
        found = torch.cholesky_solve(wanted, root)
        ctx.save_for_backward(root, found)
        return root.diagonal(dim1=1, dim2=2).log().sum() - (wanted * found).sum() / 2

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
        root, found = ctx.saved_tensors
        (slope,) = grad_outputs
        return slope * (torch.cholesky_inverse(root) + found @ found.mT) / 2, -slope * found


def _cholesky(matrix: Float[Tensor, "*o t t"]) -> Float[Tensor, "*o t t"]:
    """Root of a positive matrix, however many tokens are alike."""
    trace = matrix.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    return torch.linalg.cholesky(matrix + SMALLEST * trace * torch.eye(matrix.shape[-1]).to(matrix))
