"""Jigsaw: shuffled patches put back into order by their seams.

A closed form returns what entered the network, in the order in which it entered. No gradient says
where a patch stood before, but its borders do.
"""

from typing import Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator

from privbench.attack import Attack, Tick
from privbench.attacks._assembly import assemble
from privbench.attacks._reading import mask
from privbench.attacks._seams import seams
from privbench.component import make
from privbench.observation import Observation
from privbench.patches import cut, join
from privbench.threat import Reconstruction

TRIALS, SURE = 50, 0.02
"""Throws of the defense's dice, and the least share of them that a patch counts as moved."""
DOUBT = 0.1
"""Cost of any move, in units of a seam's logarithm."""


class Jigsaw(Attack):
    """Another attack's patches, re-assembled by the fit of their borders."""

    paper: ClassVar[str] = "doi:10.1109/CVPR.2012.6247699"
    content: str = "pe_ls"
    """The attack that finds the patches; any but this one."""
    steps: Annotated[int, Field(ge=1)] = 200
    """Arrangements that are tried for each picture."""

    def __post_init__(self) -> None:
        """Refuse to take content from a jigsaw."""
        if self.content == type(self).__module__.rpartition(".")[2]:
            raise ValueError("content comes from another attack")

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Find patches, then the order with the best seams; masked cells alone if known."""
        vit, total = seen.model.vit, seen.shape[0] * self.steps
        inner = make(Attack, self.content, {})
        found = inner.reconstruct(seen, rng, lambda done, of, value: tick(0, total, value))
        dice = np.random.default_rng(int(torch.randint(2**62, (), generator=rng)))
        moves, draw = _moves(seen, rng), mask(seen)
        pictures, costs, moved = [], [], []
        for index, patches in enumerate(cut(found.images, vit.patch)):
            odds = moves.clip(SURE, 1 - SURE)
            stay = np.log((1 - odds) / odds).clip(min=0) + DOUBT
            if draw is not None:  # then it is known which patches may have moved
                stay = np.where(draw.mask[index].cpu().numpy(), DOUBT, np.inf)
            if not moves.any():
                stay = np.full_like(stay, np.inf)

            def ticks(done: int, cost: float, before: int = index * self.steps) -> None:
                tick(before + done, total, cost)

            # pictures come in 8 bits, and what the closed form's rounding adds blurs flat seams
            fit = seams((255 * patches).round() / 255, vit.patch)
            layout, cost = assemble(fit, stay.reshape(vit.grid, -1), dice, self.steps, ticks)
            order = torch.from_numpy(layout.ravel()).to(patches.device)
            pictures.append(join(patches[order][None], vit.patch))
            costs.append(cost)
            moved.append(float((layout.ravel() != np.arange(layout.size)).mean()))
        return Reconstruction(
            torch.cat(pictures),
            objective=sum(costs) / len(costs),
            labels=found.labels,
            gradient_calls=found.gradient_calls,
            report={**found.report, "moved": sum(moved) / len(moved)},
            warnings=found.warnings,
        )


def _moves(seen: Observation, rng: Generator) -> Float[np.ndarray, " n"]:
    """How often the defense moves each patch: its procedure is public, and is tried out here."""
    vit, defense = seen.model.vit, seen.model.defense
    still = np.arange(vit.grid**2)
    drawn = [defense.draw(vit, 1, rng) for _ in range(TRIALS)]
    moved = [
        still != still if one is None else one.order[0].cpu().numpy() != still for one in drawn
    ]
    return np.mean(moved, axis=0).clip(SURE, 1 - SURE)
