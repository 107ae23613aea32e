"""Pixels back in order inside patches whose pixels all changed places alike, and pictures upright.

What is near in a picture is alike, so the covariance of pixels over all patches tells which of them
were neighbors. It does so but for a turn or a reflection, of each patch and so of the picture: that
is left to the network, which knows how pictures of the label stand.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Generator, Tensor

from privbench.attacks._order.reassembly import Reassembled, reassemble
from privbench.attacks._update.reading import labels
from privbench.errors import NotGranted
from privbench.observation import Observation
from privbench.patches import cut, join
from privbench.pixels import LEVELS
from privbench.prior import AXES, squared_distances
from privbench.threat import Draw, Images

FLAT = 0.1
"""Standard deviation of a patch, in units of the pixels', below which it says little; set by
reason."""
ANGLES = 12
"""At which a layout of pixels is put on the grid."""
KICKS, KICKED = 100, 4
"""Orders from which one goes on, each by moving so many pixels of the best one at random."""
NEAR = 1e-4
"""Added to squared distances, in sides of a picture, whose logarithm brings pixels together."""

Pixels = Float[Tensor, "m c q"]
"""Of each patch and channel, normalized."""
Order = Int[Tensor, " q"]


def put_back(
    seen: Observation,
    images: Images,
    rng: Generator,
    steps: int,
    tick: Callable[[int, int, float], None],
    draw: Draw | None,
) -> Reassembled:
    """Find the arrangement of patches, and of their pixels where a defense moves these, too."""
    alike = shuffled(seen)
    if alike is None:
        return reassemble(seen, images, rng, steps, tick, draw)
    placed = reassemble(seen, in_order(seen, images, alike, rng), rng, steps, tick, draw)
    return replace(placed, images=upright(seen, placed.images))


def shuffled(seen: Observation) -> Bool[Tensor, "b b"] | None:
    """Return which pictures' pixels change places alike; None where a defense moves none.

    Its procedure is public, and is tried out here.
    """
    drawn = seen.model.defense.draw(seen.model.vit, seen.shape[0], Generator().manual_seed(0))
    if not isinstance(drawn, Draw) or drawn.inner is None:
        return None
    return (drawn.inner[:, None] == drawn.inner).all(2)


def in_order(
    seen: Observation, images: Images, alike: Bool[Tensor, "b b"], rng: Generator
) -> Images:
    """Return pictures with the pixels of each patch in order, but for one turn or reflection."""
    vit = seen.model.vit
    patches = vit.patches(images).double().unflatten(2, (3, -1))  # b n c q
    plain, found = cut(images, vit.patch).unflatten(2, (3, -1)), []
    for one, group in zip(plain, alike, strict=True):
        order = order_of(patches[group].flatten(0, 1), vit.patch, vit.side, rng)
        found.append(one[..., order])  # as they are: to normalize and back would leave [0, 1]
    return join(torch.stack(found).flatten(2), vit.patch)


def order_of(pixels: Pixels, side: int, whole: int, rng: Generator) -> Order:
    """Return which of the shuffled pixels belongs to each place of a patch, `side` of `whole`.

    The prior of pictures tells; patches count alike, however much contrast they have.
    """
    away = pixels - pixels.mean(2, keepdim=True)
    size = away.square().mean((1, 2), keepdim=True)
    away = away / (size + FLAT**2).sqrt()
    colored = torch.einsum("ac,mcq->amq", away.new_tensor([a.color for a in AXES]), away)
    shared = colored.mT @ colored / len(away)  # a q q
    apart = squared_distances(side, whole, away)
    blank = torch.eye(side**2).to(away) / (12 * LEVELS**2 * FLAT**2)
    precise = torch.stack(
        [torch.linalg.inv(a.variance * a.correlation(apart) + blank) for a in AXES]
    )
    wide = (apart + NEAR).log()[None]  # what is far counts as well, at first
    starts = [_descend(shared.sum(0)[None], wide, one)[0] for one in _layouts(shared.sum(0), side)]
    best, least = min((_descend(shared, precise, one) for one in starts), key=lambda one: one[1])
    for _ in range(KICKS):
        start, moved = best.clone(), torch.randperm(side**2, generator=rng)[:KICKED]
        start[moved] = start[moved.roll(1)]
        order, cost = _descend(shared, precise, start)
        if cost < least:
            best, least = order, cost
    return best


def upright(seen: Observation, images: Images) -> Images:
    """Return pictures turned or reflected as the network likes them best for their labels."""
    try:
        known = labels(seen)
    except NotGranted:
        known = None
    found = []
    for number, picture in enumerate(images):
        turned = torch.stack([t for one in (picture, picture.flip(2)) for t in _quarters(one)])
        with torch.no_grad():
            sure = seen.model.logits(turned).log_softmax(1)
        # of a batch nobody knows which label is whose
        alone = known is not None and len(images) == 1
        score = sure[:, known[number]] if known is not None and alone else sure.amax(1)
        found.append(turned[score.argmax()])
    return torch.stack(found)


def _quarters(picture: Float[Tensor, "c h h"]) -> list[Tensor]:
    return [picture.rot90(k, (1, 2)) for k in range(4)]


def _layouts(shared: Float[Tensor, "q q"], side: int) -> list[Order]:
    """Return orders from classical scaling: how unlike two pixels are grows with their distance."""
    own = shared.diagonal()
    squares = (own[:, None] + own - 2 * shared).square()
    centered = torch.eye(len(own)).to(own) - 1 / len(own)
    values, vectors = torch.linalg.eigh(-centered @ squares @ centered / 2)
    flat = vectors[:, -2:] * values[-2:].clamp(min=0).sqrt()
    line = torch.arange(side).to(flat)
    grid = torch.cartesian_prod(line, line) - line.mean()
    flat = flat * (grid.norm() / flat.norm())
    found = []
    for angle in torch.arange(ANGLES).to(flat) * (torch.pi / 2 / ANGLES):
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).view(2, 2)
        cost = torch.cdist(grid, flat @ turn).square()
        _, columns = linear_sum_assignment(cost.numpy(force=True))
        found.append(torch.from_numpy(columns).to(cost.device))
    return found


def _descend(
    shared: Float[Tensor, "a q q"], precise: Float[Tensor, "a q q"], order: Order
) -> tuple[Order, float]:
    """Exchange the two pixels that gain most, as long as any do; return the order and its cost."""
    while True:
        here = shared[:, order][:, :, order]
        product = (here @ precise).sum(0)
        own, diagonal = product.diagonal(), (here.diagonal(0, 1, 2), precise.diagonal(0, 1, 2))
        # an exchange is I - u u^T with u = e_r - e_t, so it costs
        # -2 u^T S Q u + (u^T S u) (u^T Q u) more
        first = product + product.T - own[:, None] - own
        pairs = [part[:, :, None] + part[:, None] for part in diagonal]
        corner = ((pairs[0] - 2 * here) * (pairs[1] - 2 * precise)).sum(0)
        gain = 2 * first + corner
        r, t = divmod(int(gain.argmin()), len(order))
        if gain[r, t] > -1e-9:
            return order, float(own.sum())
        order = order.clone()
        order[[r, t]] = order[[t, r]]
