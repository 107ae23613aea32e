"""The order of patches that enter as a set."""

import torch
from torch import Generator

from privbench.attacks._map.posterior import Posterior
from privbench.attacks._map.seats import Seats
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

    They enter as a set, so the prior alone tells. Seams propose, and beside shown patches of one
    picture the prior itself.
    """
    draw = posterior.draw if isinstance(posterior.draw, Draw) else None
    loose = placeless(seen, draw)
    if not loose.any():
        return at
    images, slopes = posterior.split(at)
    found = [at]
    if seen.model.vit.grid > SMALL:
        placed = reassemble(seen, images, rng, ARRANGEMENTS, lambda *_: None, draw).images
        found.append(torch.cat([placed.flatten(), slopes.flatten()]))
    if len(images) == 1 and not loose.all():
        found.append(Seats(posterior, loose).ordered(at, rng))
    return min(found, key=lambda one: float(posterior.whitened(one).square().sum()))
