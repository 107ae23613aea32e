"""From the network input to the picture: patches put back by the fit of their borders."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator

from privbench.attacks._order.assembly import assemble
from privbench.attacks._order.seams import seams
from privbench.attacks._update.reading import mask, placeless
from privbench.observation import Observation
from privbench.patches import cut, join
from privbench.pixels import rounded
from privbench.threat import Draw, Images

TRIALS, SURE = 50, 0.02
"""Random draws of the defense, and the least share of them in which a patch counts as moved: one
draw of so many."""
DOUBT = 0.1
"""Cost of any move, in units of a seam's logarithm; set by reason."""


@dataclass(frozen=True)
class Reassembled:
    """Pictures with their patches in place."""

    images: Images
    cost: float
    """Mean over the pictures of the cost of all seams and moves."""
    moved: float
    """Share of the patches that are not where they entered."""


def moves(seen: Observation, rng: Generator) -> Float[np.ndarray, " n"]:
    """How often the defense moves each patch: its procedure is public, and is tried out here."""
    vit, defense = seen.model.vit, seen.model.defense
    still = np.arange(vit.grid**2)
    drawn = [defense.draw(vit, 1, rng) for _ in range(TRIALS)]
    moved = [
        one.order[0].cpu().numpy() != still if isinstance(one, Draw) else still != still
        for one in drawn
    ]
    return np.mean(moved, axis=0)


def reassemble(
    seen: Observation,
    images: Images,
    rng: Generator,
    steps: int,
    tick: Callable[[int, int, float], None],
    draw: Draw | None = None,
) -> Reassembled:
    """Find the arrangement with the best seams; only patches without a position move, if any."""
    vit, total = seen.model.vit, len(images) * steps
    numbers = np.random.default_rng(int(torch.randint(2**62, (), generator=rng)))
    odds, draw = moves(seen, rng), mask(seen) if draw is None else draw
    loose = placeless(seen, draw).cpu().numpy()
    pictures, costs, moved = [], [], []
    for index, patches in enumerate(cut(images, vit.patch)):
        if draw is not None or loose.any():
            stay = np.where(loose, DOUBT, np.inf)
        elif odds.any():
            likely = odds.clip(SURE, 1 - SURE)
            stay = np.log((1 - likely) / likely).clip(min=0) + DOUBT
        else:
            stay = np.full_like(odds, np.inf)

        def ticks(done: int, cost: float, before: int = index * steps) -> None:
            tick(before + done, total, cost)

        # what a closed form's rounding adds would blur flat seams
        fit = seams(rounded(patches), vit.patch)
        layout, cost = assemble(fit, stay.reshape(vit.grid, -1), numbers, steps, ticks)
        order = torch.from_numpy(layout.ravel()).to(patches.device)
        pictures.append(join(patches[order][None], vit.patch))
        costs.append(cost)
        moved.append(float((layout.ravel() != np.arange(layout.size)).mean()))
    return Reassembled(torch.cat(pictures), sum(costs) / len(costs), sum(moved) / len(moved))
