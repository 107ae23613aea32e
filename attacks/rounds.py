"""Several rounds with fresh draws: what one update leaves open, the next one pins down.

Each round shows every patch up to a linear span: that of the differences of the patches masked
in it. A patch lies in all of these affine spaces at once, and what they share is the span of the
patches that were masked every time. Naive shuffling falls to a vote: most patches stay each time.
"""

from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from privbench.attack import Attack, Tick
from privbench.attacks._linear.ambiguity import Ambiguity, ambiguity
from privbench.attacks._linear.smooth import complete_columns
from privbench.observation import Observation
from privbench.patches import join
from privbench.roles import Role
from privbench.threat import Reconstruction

OPEN = 1e-6
"""Share of the rounds that have to pin a direction down; less is rounding."""


class Rounds(Attack):
    """Closed forms of several updates on one batch, intersected; needs threat.rounds above one."""

    paper: ClassVar[str] = "privbench"
    version: ClassVar[int] = 2
    roles: ClassVar[frozenset[Role]] = frozenset({Role.POSITIONS, Role.STEM})
    many_rounds: ClassVar[bool] = True

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Solve all rounds together; what stays open is completed by smoothness."""
        vit, updates = seen.model.vit, (seen.update, *seen.later)
        found: list[Ambiguity] = []
        for number, update in enumerate(updates):
            found.append(ambiguity(replace(seen, update=update)))
            tick(number + 1, len(updates), 0.0)
        warnings = []
        if len(updates) == 1:
            warnings.append("One round only: add `--set threat.rounds=4` for more.")
        if seen.shape[0] > 1:
            warnings.append(
                f"A batch of {seen.shape[0]}: the position gradient sums over the images, so this "
                "is one mixture of them."
            )
        if all(len(one.basis) == 0 for one in found):
            patches, apart, free = *_vote(found), 0
        else:
            patches, basis, apart = _intersection(found)
            free = basis.shape[1]
            if free:
                patches = complete_columns(patches, basis, vit.patch)
                warnings.append(
                    f"The rounds leave {free} dimensions of each patch open, and smoothness "
                    "completes them: some patches were masked every time."
                )
        picture = join(patches[None], vit.patch) * vit.std.double() + vit.mean.double()
        return Reconstruction(
            picture.clamp(0, 1).float().expand(seen.shape).clone(),
            objective=apart,
            report={
                "rounds": float(len(updates)),
                "ambiguity": float(free * len(patches)),
                "residual": apart,
            },
            warnings=tuple(warnings),
        )


def _intersection(
    found: list[Ambiguity],
) -> tuple[Float[Tensor, "n p"], Float[Tensor, "p k"], float]:
    """Return patches nearest to all affine spaces, the directions open in all, and the misfit."""
    p = found[0].origin.shape[1]
    one = torch.eye(p).to(found[0].origin)
    pinned = [one - part.basis.T @ part.basis for part in found]
    values, vectors = torch.linalg.eigh(torch.stack(pinned).sum(0))
    keep = values > OPEN * len(found)
    wanted = torch.stack([part.origin @ q for part, q in zip(found, pinned, strict=True)])
    patches = wanted.sum(0) @ (vectors[:, keep] / values[keep]) @ vectors[:, keep].T
    misses = [(patches - part.origin) @ q for part, q in zip(found, pinned, strict=True)]
    misfit = torch.stack(misses).norm() / wanted.norm().clamp(min=torch.finfo(wanted.dtype).tiny)
    return patches, vectors[:, ~keep], float(misfit)


def _vote(found: list[Ambiguity]) -> tuple[Float[Tensor, "n p"], float]:
    """Return for each place the patch that is nearest to those of all rounds, and the spread."""
    seen = torch.stack([part.origin for part in found], dim=1)  # n rounds p
    apart = torch.cdist(seen, seen).sum(1)
    chosen = apart.argmin(1)
    patches = seen[torch.arange(len(seen)).to(chosen), chosen]
    return patches, float((seen - patches[:, None]).norm() / seen.norm())
