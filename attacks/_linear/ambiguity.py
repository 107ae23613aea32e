"""What linear algebra on an update leaves open of each patch: a point and a few directions.

The patch-embedding gradient is G = D^T X over token gradients D (n x d) and normalized patches X
(n x p). Where the position gradient shows rows of D, they pin patches down; what stays open is a
linear span that all patches share (privbench's derivation; verified in tests/test_span.py).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from privbench.attacks._update.reading import from_pictures, mask, placeless
from privbench.observation import Observation
from privbench.threat import Draw
from privbench.vit import ViT

UNKNOWN = "unknown_embed"


@dataclass(frozen=True)
class Ambiguity:
    """Patch i is origin[i] + a @ basis for some a; normalized pixels, float64."""

    origin: Float[Tensor, "n p"]
    basis: Float[Tensor, "k p"]
    masked: Bool[Tensor, " n"]
    """Patches that share one unknown position embedding."""

    def patches(self, coefficients: Float[Tensor, "n k"]) -> Float[Tensor, "n p"]:
        """Patches at given coordinates."""
        return self.origin + coefficients @ self.basis

    def coordinates(self, patches: Float[Tensor, "n p"]) -> Float[Tensor, "n k"]:
        """Coordinates of the nearest consistent patches; the basis is orthonormal."""
        return (patches - self.origin) @ self.basis.T


def ambiguity(seen: Observation, draw: Draw | None = None) -> Ambiguity:
    """Solve what is linear: exact patches, or the affine space that each lies in.

    With the position gradient and m masked patches (their rows are zero): the unmasked ones up
    to the span of differences of masked ones, m - 1 directions, and the masked ones inside their
    affine hull. Without the position gradient: the row space of G, if n is below p. The mask is
    the one that the update shows, unless another draw is given.
    """
    vit, shared = seen.model.vit, from_pictures(seen)
    weight = shared[ViT.PROJECTION].flatten(1).double()  # d p
    n, (d, p) = vit.grid**2, weight.shape
    draw = mask(seen) if draw is None else draw
    if ViT.POSITIONS not in shared:
        return Ambiguity(weight.new_zeros(n, p), _span(weight, n), placeless(seen, draw))
    masked = draw.mask[0] if draw is not None else torch.zeros(n, dtype=torch.bool)
    masked = masked.to(weight.device)
    rows = shared[ViT.POSITIONS][0, vit.prefix :].double()[~masked]  # u d
    m = int(masked.sum())
    if m == 0:
        return Ambiguity(_solve(rows, weight), weight.new_zeros(0, p), masked)
    if m >= min(p, d - (n - m)) or UNKNOWN not in shared:
        return Ambiguity(weight.new_zeros(n, p), torch.eye(p).to(weight), masked)
    seen_by_rows = torch.linalg.svd(rows, full_matrices=False).Vh  # u d
    rest = weight - seen_by_rows.T @ (seen_by_rows @ weight)
    hull = torch.linalg.svd(rest, full_matrices=False).Vh[:m].T  # p m, spans the masked patches
    # one affine normal r = hull @ w: r . x is 1 for each masked patch x, and v for the others
    total = shared[UNKNOWN].flatten().double()
    both = _solve(torch.cat([weight @ hull, -rows.T], dim=1).T, total[:, None])[:, 0]
    w, v = both[:m], both[m:]
    off = _solve(rows, weight - (weight @ hull) @ hull.T)  # u p, orthogonal to the hull
    unit = w / w.norm()
    inside = torch.linalg.svd(unit[None], full_matrices=True).Vh[1:]  # m-1 m
    origin = weight.new_empty(n, p)
    origin[~masked] = off + (v / w.norm())[:, None] * (hull @ unit)
    origin[masked] = (hull @ unit) / w.norm()
    return Ambiguity(origin, inside @ hull.T, masked)


def _span(weight: Float[Tensor, "d p"], n: int) -> Float[Tensor, "k p"]:
    p = weight.shape[1]
    if n < p:
        return torch.linalg.svd(weight, full_matrices=False).Vh[:n]
    return torch.eye(p).to(weight)


def _solve(rows: Float[Tensor, "u d"], weight: Float[Tensor, "d q"]) -> Float[Tensor, "u q"]:
    """Least-squares solution x of rows^T x = weight, the one of minimum norm."""
    u, s, vh = torch.linalg.svd(rows, full_matrices=False)
    keep = s > 1e-13 * s[:1].clamp(min=torch.finfo(s.dtype).tiny)
    return u[:, keep] @ ((vh[keep] @ weight) / s[keep, None])
