"""Closed form without a position gradient: known position embeddings mark their tokens.

The patch-embedding gradient spans the patches, p_i = R c_i. The first block's qkv gradient spans
its inputs V, so each token h_i = E p_i + e + s_i (s_i its position embedding) lies in W =
span{V / gamma, beta / gamma, 1}, with gamma and beta of the LayerNorm between. Off W, E R c_i is
-(e + s_i): one linear system, one right-hand side for each position. It has one solution if the
embeddings are independent off W, as learned ones are where the width leaves room; fixed
sine-cosine tables are of low rank and leave most open.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from privbench.attack import Attack, Tick
from privbench.attacks._linear.smooth import complete_columns
from privbench.attacks._linear.watermark import Marks, read
from privbench.attacks._update.reading import measured
from privbench.observation import Observation
from privbench.roles import Role
from privbench.threat import Reconstruction

RANK = {torch.float64: 1e-5, torch.float32: 1e-4}
"""Singular values below this share of those of E R are zero, by the update's precision."""
WORSE = 10.0
"""Factor between two misfits that tells a masked patch."""
BLURRED = 1e-2
"""Relative residual from which on the spans are too imprecise to be trusted."""


class PositionWatermark(Attack):
    """Exact picture from the patch-embedding and first qkv gradients; positions may be frozen."""

    paper: ClassVar[str] = "privbench"
    version: ClassVar[int] = 2
    roles: ClassVar[frozenset[Role]] = frozenset({Role.NORM, Role.QKV, Role.STEM})

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Solve for all patches at once in float64; raises BadUpdate or UnsupportedModel."""
        vit, batch = seen.model.vit, seen.shape[0]
        marks = read(measured(seen), seen.model, batch)
        u, s, vh = torch.linalg.svd(marks.system, full_matrices=False)
        # Relative to E R, not to what is left of it: where all is open, only noise is left.
        zero = RANK[seen.update.tensors[vit.qkv.weight_name].dtype] * marks.size
        rank = int((s > zero).sum())
        found, misfit = _solve(marks, u[:, :rank], s[:rank], vh[:rank])
        free = marks.patches @ torch.linalg.svd(vh[:rank]).Vh[rank:].T  # p nullity
        nullity = free.shape[1]
        if nullity:
            found = complete_columns(found, free, vit.patch)
        picture = vit.pixels(found[None])
        tick(1, 1, misfit)
        report = {
            "rank": float(rank),
            "nullity": float(nullity),
            "condition": float(s[0] / s[rank - 1]) if rank else float("inf"),
            "equations": float(marks.equations),
            "residual": misfit,
            "ambiguity": float(nullity * len(found) * batch),
            "in_box": float(((picture >= 0) & (picture <= 1)).double().mean()),
        }
        return Reconstruction(
            picture.clamp(0, 1).float().expand(seen.shape).clone(),
            objective=misfit,
            report=report,
            warnings=tuple(_warnings(marks, nullity, misfit, batch)),
        )


def _solve(
    marks: Marks, u: Float[Tensor, "d k"], s: Float[Tensor, " k"], vh: Float[Tensor, "k r"]
) -> tuple[Float[Tensor, "n p"], float]:
    """Return the patches of least norm, and the misfit.

    Masked patches share an unknown embedding, to which any cell fits: a patch counts as masked
    where the ordinary table fits much worse.
    """
    answers, errors = [], []
    for side in marks.sides:
        seen = u.T @ side
        answers.append((marks.patches @ (vh.T @ (seen / s[:, None]))).T)
        errors.append((side - u @ seen).norm(dim=0) / side.norm(dim=0).clamp(min=1e-300))
    masked = errors[0] > WORSE * errors[-1]
    error = torch.where(masked, errors[-1], errors[0])
    found = torch.where(masked[:, None], answers[-1], answers[0])
    return found, float(error.square().mean().sqrt())


def _warnings(marks: Marks, nullity: int, misfit: float, batch: int) -> list[str]:
    r, found = marks.system.shape[1], []
    if batch > 1:
        found.append(
            f"A batch of {batch}: the images' tokens at one position solve the same equations, "
            "so all of them get one answer."
        )
    if marks.equations < r:
        found.append(
            f"The width leaves {marks.equations} equations for {r} unknowns of each patch: a "
            "wider model or fewer patches are needed for an exact answer."
        )
    elif nullity:
        found.append(
            f"The position embeddings are dependent: of {r} dimensions that the patches span, "
            f"{nullity} stay open (fixed sine-cosine tables, none at all, or a mask)."
        )
    if nullity:
        found.append("What is open is completed by smoothness.")
    if misfit > BLURRED and marks.equations > r:
        found.append(
            f"The tokens miss their span by {misfit:.1g} of their size: the gradients are not "
            "precise enough for this solution to be trusted."
        )
    return found
