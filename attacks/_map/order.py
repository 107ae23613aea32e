"""The order of patches that enter as a set."""

import torch
from torch import Generator

from privbench.attacks._map.posterior import Posterior
from privbench.attacks._order.reassembly import reassemble
from privbench.attacks._update.reading import placeless
from privbench.jacobian import Unknowns
from privbench.observation import Observation
from privbench.threat import Draw

ARRANGEMENTS = 200
"""Orders that are tried, as by `jigsaw`."""
SMALL = 2
"""Side of a grid from which seams grow nothing."""


def arranged(seen: Observation, posterior: Posterior, at: Unknowns, rng: Generator) -> Unknowns:
    """Put patches that share an embedding in order, if that is more probable.

    They enter as a set, so the prior alone tells; seams propose.
    """
    draw = posterior.draw if isinstance(posterior.draw, Draw) else None
    few = seen.model.vit.grid <= SMALL
    if few or not placeless(seen, draw).any():
        return at
    images, slopes = posterior.split(at)
    placed = reassemble(seen, images, rng, ARRANGEMENTS, lambda *_: None, draw).images
    other = torch.cat([placed.flatten(), slopes.flatten()])
    costs = [float(posterior.whitened(one).square().sum()) for one in (at, other)]
    return other if costs[1] < costs[0] else at
