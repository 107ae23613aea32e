"""Closed form: patches from the gradients of the position table and the patch embedding.

A position's embedding and its embedded patch enter the network only as a sum, so the position
gradient is the token gradient D (n x d), and the patch-embedding gradient is G = D^T X. The
patches X (n x p, normalized) solve that linear system: X = (D^T)^+ G. Exact for one image
whenever D has rank n; no label, no evaluation of the model. What the system leaves open, and what
rounding or noise has covered, is filled in by the smoothness of pictures.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from privbench.attack import Attack, Tick
from privbench.attacks._linear.denoise import solve
from privbench.attacks._linear.masked import solve as solve_beside
from privbench.attacks._linear.smooth import complete_columns, complete_rows
from privbench.attacks._linear.waves import Waves
from privbench.attacks._update.reading import comparable, from_pictures, mask
from privbench.attacks._update.stated import system_errors, wire_errors
from privbench.attacks._update.system import PROJECTION_BIAS, System, read, relative
from privbench.observation import Observation
from privbench.roles import Role
from privbench.threat import Reconstruction

EXACT = 1e-5
"""Relative residual up to which an update counts as unrounded and without noise."""

COARSE, FINE = 1e-5, 1e-9
"""Residuals at which the weighted equations count as solved, for errors that are measured and for
those that the wire makes known, which may be far below the picture."""

ROUNDING = float(torch.finfo(torch.float32).eps)
"""What float32, in which clients compute, leaves of a number of size 1."""


class PositionLeastSquares(Attack):
    """Exact picture of one client from two shared tensors, by one singular value decomposition."""

    paper: ClassVar[str] = "privbench; after APRIL, arXiv:2112.14087"
    version: ClassVar[int] = 5
    roles: ClassVar[frozenset[Role]] = frozenset({Role.POSITIONS, Role.STEM})
    threshold: float = 1e-13
    """Singular values below this share of the largest count as zero."""

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Solve for the patches in float64, and complete them; raises BadUpdate."""
        vit, batch = seen.model.vit, seen.shape[0]
        shared = from_pictures(seen)
        system = read(shared, vit.prefix, comparable(seen))
        known, draw = wire_errors(seen, shared), mask(seen)
        token, embedding = system.token, system.embedding
        n, d = token.shape
        u, s, vh = torch.linalg.svd(token)
        # Every path from a token ends in a LayerNorm, which ignores one direction: in float32
        # that direction sits at 1e-7 of the largest singular value instead of at zero.
        rank = min(int((s > self.threshold * s[0]).sum()), n, d - 1)
        patches = u[:, :rank] @ ((vh[:rank] @ embedding) / s[:rank, None])  # n p
        residual = relative(embedding - token.T @ patches, embedding)
        report = {
            "rank": float(rank),
            "condition": float(s[0] / s[rank - 1]) if rank else float("inf"),
            "residual": residual,
            "ambiguity": float((n - rank) * patches.shape[1]),
        }
        warnings = []
        if rank and report["condition"] * ROUNDING > 1:
            warnings.append(
                f"The token gradients are nearly parallel (condition {report['condition']:.1g}): "
                "float32 rounding covers part of the picture, though the equations hold."
            )
        if system.guessed:
            warnings.append(
                "Each tensor was scaled by itself, and this update is too imprecise to tell by "
                "what: the contrast is that of an average picture."
            )
        elif system.scale != 1:
            warnings.append(
                f"The patch embedding's gradient was {system.scale:.3g} times too large for the "
                "position gradient, as after clipping by layer; its bias told, and it is undone."
            )
        if batch > 1:
            patches, free, warning = _batch(system, patches, vh[rank:].T, batch, vit.patch)
            report["ambiguity"] = float(free * batch * n)
            warnings.append(warning)
        elif draw is not None and draw.mask.any():
            patches = _beside(seen, shared, system, ~draw.mask[0])
            warnings.append(
                "Patches are masked, and their token gradients not shared: shown ones are least "
                "squares beside them, and they are a guess by the shown ones."
            )
        elif system.dead:
            warnings.append("Some positions have no gradient (masked): minimum-norm solution.")
        elif residual > EXACT or known:
            of_token, of_embedding, kind = system_errors(seen, shared, system)
            enough = FINE if known else COARSE
            patches = solve(token, embedding, of_token, of_embedding, vit.patch, enough)
            report["noise"] = float(of_embedding.square().mean().sqrt() / embedding.std())
            warnings.append(f"The update is {kind}: weighted least squares under smoothness.")
        elif rank < n:
            patches = complete_rows(patches, u[:, rank:], vit.patch)
            why = f"{n} patches exceed width - 1 = {d - 1}" if n > d - 1 else "rank is missing"
            warnings.append(f"Rank {rank} of {n} ({why}): the rest is completed by smoothness.")
        picture = vit.pixels(patches[None])
        report["in_box"] = float(((picture >= 0) & (picture <= 1)).double().mean())
        if system.mismatch is not None:
            report["bias_mismatch"] = system.mismatch
        tick(1, 1, residual)
        return Reconstruction(
            picture.clamp(0, 1).float().expand(seen.shape).clone(),
            objective=residual,
            report=report,
            warnings=tuple(warnings),
        )


def _beside(
    seen: Observation,
    shared: Mapping[str, Tensor],
    system: System,
    shown: Bool[Tensor, " n"],
) -> Float[Tensor, "n p"]:
    """Return patches where some are masked; those have no row of their own in D."""
    vit, alike = seen.model.vit, comparable(seen)
    of_token, of_embedding, _ = system_errors(seen, shared, system, shown)
    total = shared.get(PROJECTION_BIAS)
    if alike is not None and PROJECTION_BIAS not in alike:
        total = None
    prior = Waves(vit.side, vit.patch, vit.std.flatten().double())
    sides = system.token, system.embedding, None if total is None else total.double()
    return solve_beside(*sides, of_token, of_embedding, shown, prior)


def _batch(
    system: System, mixture: Tensor, off: Tensor, batch: int, side: int
) -> tuple[Tensor, int, str]:
    """Return patches of all images alike, dimensions of a patch left open, and a warning.

    Off the span of D (columns of `off`, d x rest) the embedding gradient shows the span of the
    images' differences, patch by patch. Off that span all images are equal to the mixture.
    """
    n, d = system.token.shape
    p, open_to_it = mixture.shape[1], (batch - 1) * n
    if batch * n > d - 1 or open_to_it >= p or system.dead:
        warning = (
            f"A batch of {batch}: the position gradient sums over the images, so this is one "
            "minimum-norm mixture of them, not a picture of each."
        )
        return mixture, p, warning
    differences = torch.linalg.svd(off.T @ system.embedding, full_matrices=False).Vh
    free = differences[:open_to_it].T  # p k
    patches = complete_columns(mixture - mixture @ free @ free.T, free, side)
    warning = (
        f"A batch of {batch}: exact for each image in {p - open_to_it} of a patch's {p} "
        "dimensions, in which the images agree; the others are completed by smoothness, for all "
        "images alike."
    )
    return patches, open_to_it, warning
