"""Patches that only their pixels tell apart: where they look alike, an update is not linear.

Patches with one position embedding enter a network as a set. Two of them with the same pixels may
be changed one up and the other down, and to first order no update changes: that they differ shows
in second order only. So somebody next to the picture seems to know nothing of their difference,
while an attack finds it. Wherever such patches differ by less than what is left open of that, the
difference counts as known: the ceiling may be too high then, and is not too low.
"""

from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from privbench.bounds.ceiling import Again, Square, posterior
from privbench.jacobian import Unknowns
from privbench.observation import PublicModel
from privbench.patches import cut
from privbench.threat import Images, Randomness

CLOSE = 0.5
"""Of a difference: the error of it from which on it is no small one."""

Places = Int[Tensor, "n p"]
"""Numbers of a patch's pixels in the picture's memory, in the order in which the patch has them."""


def left_open(
    information: Square,
    prior: Square,
    again: Again,
    at: Unknowns,
    groups: list[Places],
) -> tuple[float, int, int]:
    """Return the mean squared error per number of the best estimate, and two counts.

    Of directions that are not resolved, as `posterior` has them, and of patches that count as known
    but for one. At holds the picture's numbers, and groups hold patches that only their pixels tell
    apart.
    """
    root, unresolved = posterior(information, prior, again)
    half = torch.linalg.cholesky(prior)
    pixels, tied = at.to(prior), [list(range(len(group))) for group in groups]
    while sum(_join(root, pixels, *one) for one in zip(groups, tied, strict=True)):
        basis = _together(groups, tied, len(pixels)).to(prior)
        whitened = torch.linalg.solve_triangular(half, basis, upper=False)
        given = torch.linalg.inv(whitened.T @ whitened)  # the prior where differences are known
        found, unresolved = posterior(
            basis.T @ information @ basis,
            (given + given.T) / 2,
            lambda along, basis=basis: again(along @ basis.T) @ basis,
        )
        root = found @ basis.T
    count = sum(len(one) - len(set(one)) for one in tied)
    return float(root.square().sum()) / len(pixels), unresolved, count


def interchangeable(model: PublicModel, images: Images, draw: Randomness | None) -> list[Places]:
    """Return groups of patches that have one position embedding, of a client's one picture.

    None where a defense makes other pixels of those of the picture.
    """
    vit = model.vit
    table = model.defense.positions(vit, draw)[0, vit.prefix :].detach()
    if len(table) != vit.grid**2:
        return []
    numbers = torch.arange(images.numel()).to(images).view(images.shape)
    fed = model.defense.feed(vit, numbers, draw)
    if not torch.equal(fed.flatten().sort().values, numbers.flatten()):
        return []
    places = cut(fed.detach(), vit.side // vit.grid)[0].long().cpu()
    _, kinds = torch.unique(table, dim=0, return_inverse=True)
    groups = [places[(kinds == kind).cpu()] for kind in range(int(kinds.max()) + 1)]
    return [group for group in groups if len(group) > 1]


def _join(
    root: Float[Tensor, "m k"], pixels: Float[Tensor, " k"], group: Places, tied: list[int]
) -> bool:
    """Put patches into one tie that what is left open does not tell apart; say whether any was."""
    changed = False
    for one, other in combinations(range(len(group)), 2):
        if tied[one] == tied[other]:
            continue
        apart = (pixels[group[one]] - pixels[group[other]]).square().sum()
        doubt = (root[:, group[one]] - root[:, group[other]]).square().sum()
        if apart == 0 or doubt > CLOSE**2 * apart:
            into, out = sorted((tied[one], tied[other]))
            tied[:] = [into if tie == out else tie for tie in tied]
            changed = True
    return changed


def _together(groups: list[Places], tied: list[list[int]], count: int) -> Float[Tensor, "k z"]:
    """Return orthonormal columns: pixels that are in no tie, and those of each tie as one."""
    first, sizes = torch.arange(count), torch.ones(count)
    for group, ties in zip(groups, tied, strict=True):
        for tie in set(ties):
            members = group[[number for number, own in enumerate(ties) if own == tie]]
            first[members] = members[:1].expand_as(members).clone()
            sizes[members] = len(members)
    _, column = torch.unique(first, return_inverse=True)
    found = torch.zeros(count, int(column.max()) + 1, dtype=torch.float64)
    found[torch.arange(count), column] = sizes.double().rsqrt()
    return found
