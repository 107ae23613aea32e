"""MJP's dense absolute localization (arXiv:2205.12551): regress places from position embeddings."""

import math
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

Head = Literal["none", "linear", "nonlinear", "pca"]
Target = Literal["grid", "share"]

WARM_UP = 20 / 300
"""Share of the training in which the weight rises from zero."""
ITERATIONS = 5
"""Of the subspace iteration that stands for the released code's randomized PCA."""


def head(kind: Head, width: int, rng: Generator) -> nn.Module | None:
    """Regressor from an embedding to (row, column); none where the kind has no parameters."""
    sizes = {"linear": [width, 2], "nonlinear": [width, width, 2]}.get(kind, [])
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layer = nn.Linear(before, after)
        bound = before**-0.5  # torch's own start, from the given generator
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=rng)
        layers += [*([nn.ReLU()] if layers else []), layer]
    return nn.Sequential(*layers) if layers else None


def weight(progress: float, top: float, end: float) -> float:
    """Weight of the loss at a share of the training: linear from zero, then a cosine to end."""
    if progress < WARM_UP:
        return top * progress / WARM_UP
    done = (progress - WARM_UP) / (1 - WARM_UP)
    return end + (top - end) * (1 + math.cos(math.pi * min(done, 1.0))) / 2


def loss(
    rows: Float[Tensor, "n d"],
    masked: Bool[Tensor, "b n"] | None,
    regressor: nn.Module | None,
    target: Target,
) -> Float[Tensor, ""] | None:
    """Mean absolute error over both coordinates of all unmasked places; none without any.

    Targets are grid units 0 ... g - 1, as released, or these divided by g. Without a regressor
    the prediction is the rows' projection on their two main directions; there is no loss where
    they have none, as two places or fewer.
    """
    grid = round(len(rows) ** 0.5)
    places = torch.arange(len(rows), device=rows.device)
    wanted = torch.stack([places // grid, places % grid], dim=1).to(rows)
    if target == "share":
        wanted = wanted / grid
    often = (
        torch.ones(len(rows), device=rows.device)
        if masked is None
        else (~masked).to(rows).mean(0)  # images of a batch may have masks of their own
    )
    seen = often > 0
    if not seen.any():
        return None
    rows, wanted, often = rows[seen], wanted[seen], often[seen]
    found = _main_directions(rows) if regressor is None else regressor(rows)
    if found is None:
        return None
    return ((found - wanted).abs().mean(1) * often).sum() / often.sum()


def _main_directions(rows: Float[Tensor, "m d"]) -> Float[Tensor, "m 2"] | None:
    """Project on the first two principal directions, which carry gradient; none without two.

    The iteration starts from the exact directions, so its outcome is theirs with a sign that
    the decomposition fixes; the released code starts from random ones.
    """
    centered = rows - rows.mean(0)
    with torch.no_grad():
        _, spread, directions = torch.linalg.svd(centered, full_matrices=False)
    least = max(rows.shape) * torch.finfo(rows.dtype).eps
    if len(spread) < 2 or not spread[1] > least * spread[0]:
        return None
    centered, basis = centered / spread[0], directions[:2].T
    for _ in range(ITERATIONS):
        basis = torch.linalg.qr(centered.T @ (centered @ basis)).Q
    return rows @ basis
