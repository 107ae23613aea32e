"""Which place each token has, which patch it holds, and which tokens make one picture."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import nnls
from torch import Tensor

from privbench.attacks._peel.unroll import Unrolled
from privbench.attacks._update.reading import mask
from privbench.observation import Observation
from privbench.roles import Block
from privbench.threat import Draw
from privbench.vit import ViT

LEAST = 1e-9
"""Smallest share of attention that is told apart from none."""
HELD = 0.5
"""Weight above which a token takes part in another one's attention: it counts its copies."""


@dataclass(frozen=True)
class Places:
    """Patches that a token may hold at each place: base + a @ basis, as tokens."""

    rows: Float[Tensor, "s d"]
    """Prefix tokens, then all places; masked ones have their common embedding."""
    origin: Float[Tensor, "s p"]
    basis: Float[Tensor, "k p"]
    prefix: int
    masked: Bool[Tensor, " n"]


def places(seen: Observation, vit: ViT, shared: Mapping[str, Tensor]) -> Places:
    """Say what linear algebra says of the patches at each place of a batch.

    The patch-embedding gradient is G = sum D^T X. Off the rows of D, which the position gradient
    sums over the batch, it spans the differences between the pictures and the masked patches.
    """
    draw, n, batch = mask(seen), vit.grid**2, seen.shape[0]
    weight = shared[ViT.PROJECTION].flatten(1).double()
    masked = draw.mask[0] if draw is not None else torch.zeros(n, dtype=torch.bool)
    table = seen.model.defense.positions(vit, draw)[0].double()
    bias = 0.0 if vit.stem.bias is None else vit.stem.bias
    rows = torch.cat([vit.prefix_tokens(table[None])[0], table[vit.prefix :] + bias])
    before, p = vit.tokens_before, weight.shape[1]
    origin = weight.new_zeros(len(rows), p)
    known = ~masked if ViT.POSITIONS in shared else torch.zeros_like(masked)
    count = n * batch - int(known.sum())
    d = shared[ViT.POSITIONS][0, vit.prefix :].double()[known] if known.any() else None
    rest = weight
    if d is not None:
        seen_by = torch.linalg.svd(d, full_matrices=False).Vh
        rest = weight - seen_by.T @ (seen_by @ weight)
    if count >= p:
        return Places(rows, origin, torch.eye(p).to(weight), before, masked)
    basis = torch.linalg.svd(rest, full_matrices=False).Vh[:count]
    if d is not None:
        whole = torch.linalg.lstsq(d.T, weight, driver="gelsd").solution
        origin[before:][known] = whole - whole @ basis.T @ basis
    return Places(rows, origin, basis, before, masked)


@dataclass(frozen=True)
class Placed:
    """Each token's place and patch."""

    place: Int[Tensor, " t"]
    """Row of the places that explains it best."""
    patches: Float[Tensor, "t p"]
    tokens: Float[Tensor, "t d"]
    """As they entered the first block, whole."""
    heads: Float[Tensor, "t d"]
    answer: Float[Tensor, "t k"]
    """Patches in coordinates of the places."""
    scale: Float[Tensor, " t"]
    """Standard deviation of the token behind attention, which the norm took away."""
    misfit: Float[Tensor, " t"]
    """What the place leaves unexplained, in units of the token."""


@dataclass(frozen=True)
class Members:
    """Which picture each token belongs to, and how often it occurs there."""

    picture: Int[Tensor, " t"]
    """-1 where that is not known."""
    copies: Int[Tensor, " t"]
    """Equal patches without places of their own are one token."""


def place(vit: ViT, found: Unrolled, where: Places) -> Placed:
    """Fit every token at every place, and keep the best."""
    block, embed = vit.block(0), vit.stem.weight
    ones = torch.ones_like(found.entered[:1])
    doubt = -found.doubt @ block.proj.weight.T
    free = torch.cat([where.basis @ embed.T, ones, doubt])  # q d
    bare = torch.cat([ones, doubt])
    k, t = len(where.basis), len(found.entered)
    base = where.rows + where.origin @ embed.T
    solve, solve_bare = (torch.linalg.pinv(one.T) for one in (free, bare))
    lowest = found.entered.new_full((t,), torch.inf)
    at = torch.zeros(t, dtype=torch.long, device=lowest.device)
    answer = found.entered.new_zeros(t, len(free))
    for row, one in enumerate(base):
        special = row < where.prefix
        inverse, moves = (solve_bare, bare) if special else (solve, free)
        gap = found.entered - one
        found_at = gap @ inverse.T
        left = (gap - found_at @ moves).norm(dim=1)
        if special:
            found_at = torch.cat([found_at.new_zeros(t, k), found_at], dim=1)
        better = left < lowest
        lowest[better], at[better], answer[better] = left[better], row, found_at[better]
    patches = where.origin[at] + answer[:, :k] @ where.basis
    tokens = base[at] + answer[:, :k] @ where.basis @ embed.T
    heads = found.heads + answer[:, k + 1 :] @ found.doubt
    misfit = lowest / found.entered.norm(dim=1)
    return Placed(at, patches, tokens, heads, answer[:, :k], found.scale, misfit)


def pictures(block: Block, placed: Placed, batch: int, each: int) -> Members:
    """Tell which tokens make one picture of so many.

    Attention gives a token a mean of its own picture's values, whose weights are known but for who
    takes part; so who does is the solution, of whole numbers, of a linear system.
    """
    count = len(placed.tokens)
    number, copies = torch.full((count,), -1), torch.ones(count, dtype=torch.long)
    if batch == 1:
        number += 1
    else:
        for one in range(batch):
            free = (number < 0).nonzero().flatten()
            if not len(free):
                break
            first = int(free[placed.place[free].argmin()])
            others = free[free != first]
            held = _held(
                *_equations(block, placed, first, torch.cat([free[free == first], others]))
            )
            number[first] = one
            number[others[held > HELD]] = one
    for one in range(batch):
        own = (number == one).nonzero().flatten()
        if 1 < len(own) < each:
            own = own[placed.place[own].argsort()]
            systems = [_equations(block, placed, int(at), own) for at in own]
            system, target = (torch.cat(part) for part in zip(*systems, strict=True))
            copies[own[1:]] = _held(system, target).round().long().clamp(min=1)
    return Members(number, copies)


def _equations(
    block: Block, placed: Placed, at: int, among: Int[Tensor, " m"]
) -> tuple[Float[Tensor, "d m-1"], Float[Tensor, " d"]]:
    """Return how often each of these is in the picture of one of them, as a linear system.

    The first of them is in it once.
    """
    normal = block.norm1(placed.tokens[among])
    own = block.norm1(placed.tokens[at][None])
    values = block.heads(normal[:, None])[:, 0]
    self = block.heads(own[:, None])[0, 0]
    both = block.heads(torch.stack([own.expand_as(normal), normal], dim=1))[:, 0]
    # of two tokens, the other one has this share; against all, its quotient to one's own
    share = ((both - self) / (values - self)).nan_to_num(0.5).clamp(LEAST, 1 - LEAST)
    weight = share / (1 - share)
    weight[among == at] = 1.0
    system = (weight * (values - placed.heads[at])).T / weight.sum(0).mean()
    return system[:, 1:], -system[:, 0]


def _held(system: Float[Tensor, "e m"], target: Float[Tensor, " e"]) -> Float[Tensor, " m"]:
    return torch.from_numpy(nnls(system.cpu().numpy(), target.cpu().numpy())[0])


def drawn(where: Places, batch: int) -> Draw | None:
    """Draw of the defense that the update shows, if there is a mask."""
    if not where.masked.any():
        return None
    still = torch.arange(len(where.masked), device=where.masked.device)
    return Draw(where.masked.expand(batch, -1), still.expand(batch, -1))
