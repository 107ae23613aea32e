"""The linear system behind the patch-embedding gradient, read from an update with care."""

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from privbench.attacks._update.noise import pruned
from privbench.errors import BadUpdate, NotGranted
from privbench.vit import ViT

PROJECTION_BIAS = "backbone.patch_embed.proj.bias"


def tensor(shared: Mapping[str, Tensor], name: str) -> Tensor:
    """One gradient in float64; raises NotGranted if it is absent, BadUpdate if it is not finite."""
    if name not in shared:
        raise NotGranted(f"The update lacks the gradient of {name}.")
    if not torch.isfinite(shared[name]).all():
        raise BadUpdate(f"The gradient of {name} holds NaN or infinity: nothing can be solved.")
    return shared[name].double()


@dataclass(frozen=True)
class System:
    """Token gradient D and embedding gradient G of one update, in float64: G = D^T X."""

    token: Float[Tensor, "n d"]
    embedding: Float[Tensor, "d p"]
    dead: bool
    """Whether some position has no gradient at all, as a masked one; not if entries were pruned."""
    scale: float = 1.0
    """Factor by which the embedding gradient was scaled against the token gradient; undone."""
    guessed: bool = False
    """Whether that factor is only what an average picture would have."""
    mismatch: float | None = None
    """Relative distance of the projection's bias gradient from the sum over D; None without it."""


def read(shared: Mapping[str, Tensor], prefix: int, alike: Container[str] | None = None) -> System:
    """Read the system; raises NotGranted or BadUpdate.

    The bias of the projection has the gradient sum_i D_i. Where that sum fits but for a factor,
    the projection was scaled by it, as by clipping layer by layer. Where each tensor was scaled by
    itself, those alike have one factor; without it, patches have the size of average ones.
    """
    token = tensor(shared, ViT.POSITIONS)[0, prefix:]
    embedding = tensor(shared, ViT.PROJECTION).flatten(1)
    if not embedding.any():
        raise BadUpdate(f"The gradient of {ViT.PROJECTION} is zero everywhere: it holds nothing.")
    zero = (token == 0).all(dim=1)
    dead = bool(zero.any()) and not pruned(token[~zero])
    if alike is not None and not all(n in alike for n in (ViT.POSITIONS, ViT.PROJECTION)):
        # uncorrelated pixels of variance one make a gradient of this size
        factor = float(embedding.norm() / token.norm()) / embedding.shape[1] ** 0.5
        factor = factor if math.isfinite(factor) else 1.0  # no token gradient at all
        return System(token, embedding / factor, dead, factor, guessed=True)
    if PROJECTION_BIAS not in shared or (alike is not None and PROJECTION_BIAS not in alike):
        return System(token, embedding, dead)
    bias, total = tensor(shared, PROJECTION_BIAS), token.sum(0)
    mismatch = relative(bias - total, bias)
    size = float(total.square().sum())
    factor = float(bias @ total) / size if size else 1.0
    misfit = relative(bias - factor * total, bias)
    known = alike is not None or dead or factor <= 0
    if known or abs(factor - 1) <= max(5 * misfit, 1e-4):
        factor = 1.0
    return System(token, embedding / factor, dead, factor, mismatch=mismatch)


def relative(difference: Tensor, whole: Tensor) -> float:
    """Norm of a difference in units of what it is a difference from."""
    return float(difference.norm() / whole.norm().clamp(min=torch.finfo(whole.dtype).tiny))
