"""Subspace-restricted gradient matching: only what linear algebra leaves open is searched."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Generator

from privbench.attack import Attack, Tick
from privbench.attacks._linear.ambiguity import ambiguity
from privbench.attacks._linear.completion import complete
from privbench.attacks._matching.restricted import EVALUATIONS, Restricted
from privbench.observation import Observation
from privbench.roles import Role
from privbench.threat import Reconstruction

FAINT = 0.1
"""Contrast of random starts, in standard deviations of a pixel, where no patch is pinned down."""
BATCH = "A batch: the open numbers are those of one picture, which stands for all."


class RestrictedMatching(Attack):
    """Gradient matching inside the exact ambiguity of masked patches, by L-BFGS."""

    paper: ClassVar[str] = "privbench"
    version: ClassVar[int] = 2
    roles: ClassVar[frozenset[Role]] = frozenset({Role.STEM})
    steps: Annotated[int, Field(ge=1)] = 440
    """Iterations of L-BFGS; about one gradient evaluation each."""
    restarts: Annotated[int, Field(ge=1)] = 1
    """Of the masked patches only; the others start smooth."""

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Return the restart with the lowest distance between the gradients."""
        open_ = ambiguity(seen)
        matching = Restricted(seen, open_)
        total = max(2, round(self.steps * EVALUATIONS)) * self.restarts
        # where no patch has a place, any arrangement is as good, a smooth one too
        masked, n = open_.masked & ~open_.masked.all(), len(open_.origin)
        start = open_.origin.new_zeros(n, len(open_.basis))
        start = complete(open_, seen.model.vit.patch, start, torch.zeros_like(masked), masked)
        best, lowest = start, float("inf")

        def report(value: float) -> None:
            tick(min(matching.calls, total), total, min(value, lowest))

        for _ in range(self.restarts if len(open_.basis) else 0):
            if not open_.origin.any():  # a flat picture's patches are alike, and would stay so
                start = FAINT * torch.randn(start.shape, generator=rng, dtype=start.dtype).to(start)
            known = start[~masked]
            pick = torch.randint(len(known), (int(masked.sum()),), generator=rng)
            start[masked] = known[pick.to(known.device)]
            found, value = matching.descend(start, self.steps, report)
            if value < lowest:
                best, lowest = found, value
        images = matching.picture(best).clamp(0, 1)
        if not len(open_.basis):
            lowest = float(matching.distance(images).detach())
            tick(1, 1, lowest)
        notes = (BATCH,) if seen.shape[0] > 1 else ()
        return Reconstruction(
            images.expand(seen.shape).clone(),
            lowest,
            matching.labels,
            matching.calls,
            {"open_dimensions": float(start.numel())},
            notes,
        )
