"""Closed form: patches from the gradients of the position table and the patch embedding.

A position's embedding and its embedded patch enter the network only as a sum, so the position
gradient is the token gradient D (n x d), and the patch-embedding gradient is G = D^T X. The
patches X (n x p, normalized) solve that linear system: X = (D^T)^+ G. Exact for one image
whenever D has rank n; no label, no prior, no evaluation of the model.
"""

from typing import ClassVar

import torch
from torch import Generator, Tensor

from privbench.attack import Attack, Tick
from privbench.attacks._reading import from_pictures
from privbench.observation import Observation
from privbench.patches import join
from privbench.threat import Reconstruction
from privbench.vit import ViT

PATCH_BIAS = "backbone.patch_embed.proj.bias"


class PositionLeastSquares(Attack):
    """Exact picture of one client from two shared tensors, by one singular value decomposition."""

    paper: ClassVar[str] = "privbench; after APRIL, arXiv:2112.14087"
    reads: ClassVar[frozenset[str]] = frozenset({ViT.POSITIONS, ViT.PROJECTION})
    threshold: float = 1e-13
    """Singular values below this share of the largest count as zero."""

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Solve for the patches in float64; the minimum-norm solution where rank is missing."""
        vit, shared = seen.model.vit, from_pictures(seen)
        token = shared[ViT.POSITIONS][0, vit.prefix :].double()  # n d
        embedding = shared[ViT.PROJECTION].flatten(1).double()  # d p
        n, d = token.shape
        u, s, vh = torch.linalg.svd(token, full_matrices=False)
        # Every path from a token ends in a LayerNorm, which ignores one direction: in float32
        # that direction sits at 1e-7 of the largest singular value instead of at zero.
        rank = min(int((s > self.threshold * s[0]).sum()), n, d - 1)
        u, s, vh = u[:, :rank], s[:rank], vh[:rank]
        patches = u @ ((vh @ embedding) / s[:, None])  # n p
        picture = join(patches[None], vit.patch) * vit.std.double() + vit.mean.double()
        tick(1, 1, 0.0)
        residual = _relative(embedding - token.T @ patches, embedding)
        report = {
            "rank": float(rank),
            "condition": float(s[0] / s[-1]) if rank else float("inf"),
            "residual": residual,
            "in_box": float(((picture >= 0) & (picture <= 1)).double().mean()),
        }
        if PATCH_BIAS in shared:
            bias = shared[PATCH_BIAS].double()
            report["bias_mismatch"] = _relative(bias - token.sum(0), bias)
        return Reconstruction(
            picture.clamp(0, 1).float().expand(seen.shape).clone(),
            objective=residual,
            report=report,
            warnings=tuple(_warnings(token, rank, d, seen.shape[0])),
        )


def _relative(difference: Tensor, whole: Tensor) -> float:
    return float(difference.norm() / whole.norm().clamp(min=torch.finfo(whole.dtype).tiny))


def _warnings(token: Tensor, rank: int, d: int, batch: int) -> list[str]:
    n = len(token)
    found = []
    if batch > 1:
        found.append(
            f"A batch of {batch}: the position gradient sums over the images, so this is one "
            "minimum-norm mixture of them, not a picture of each."
        )
    if (token == 0).all(dim=1).any():
        found.append("Some positions have no gradient (masked or pruned): minimum-norm solution.")
    elif rank < n:
        why = f"{n} patches exceed width - 1 = {d - 1}" if n > d - 1 else "rank is missing"
        found.append(f"Rank {rank} of {n} ({why}): minimum-norm solution.")
    return found
