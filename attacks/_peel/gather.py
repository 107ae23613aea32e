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
from privbench.vit import ViT

LEAST = 1e-9
"""Smallest share of attention that is told apart from none."""
KNOWN = 1e-3
"""Error of what attention gave, in units of a token, where the place leaves nothing open."""
WITNESSES = 4
"""Tokens that are asked, after the first, who else is in their picture."""
SURE = 1e-8
"""Squared error of a token, in units of its own, that is counted with in any case."""
HELD = 0.5
"""Weight above which a token takes part in another one's attention: it counts its copies."""


@dataclass(frozen=True)
class Places:
    """Patches that a token may hold at each place: base + a @ basis, as tokens."""

    rows: Float[Tensor, "s d"]
    """Prefix tokens, then all places; masked ones have their common embedding."""
    origin: Float[Tensor, "s p"]
    basis: Float[Tensor, "k p"]
    base: Float[Tensor, "s d"]
    """As tokens: that of the origin, and what a unit along the basis adds."""
    moves: Float[Tensor, "k d"]
    prefix: int

    def patches(self, answer: Float[Tensor, "b n k"]) -> Float[Tensor, "b n p"]:
        """Patches of whole pictures from their coordinates."""
        return self.origin[self.prefix :] + answer @ self.basis

    def behind(self, block: Block, answer: Float[Tensor, "b n k"]) -> Float[Tensor, "b n d"]:
        """Tokens behind attention, of the base and not of the patches themselves."""
        tokens = self.base.expand(len(answer), -1, -1).clone()
        tokens[:, self.prefix :] += answer @ self.moves
        given = block.proj(block.heads(block.norm1(tokens)))
        return (self.base + given)[:, self.prefix :]


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
    basis = torch.eye(p).to(weight)
    if count < p:
        basis = torch.linalg.svd(rest, full_matrices=False).Vh[:count]
        if d is not None:
            whole = torch.linalg.lstsq(d.T, weight, driver="gelsd").solution
            origin[before:][known] = whole - whole @ basis.T @ basis
    embed = vit.stem.weight
    return Places(rows, origin, basis, rows + origin @ embed.T, basis @ embed.T, before)


@dataclass(frozen=True)
class Placed:
    """Each token's place and patch."""

    place: Int[Tensor, " t"]
    """Row of the places that explains it best."""
    tokens: Float[Tensor, "t d"]
    """As they entered the first block, whole."""
    heads: Float[Tensor, "t d"]
    answer: Float[Tensor, "t k"]
    """Patches in coordinates of the places."""
    scale: Float[Tensor, " t"]
    """Standard deviation of the token behind attention, which the norm took away."""
    doubt: Float[Tensor, " t"]
    """Standard deviation of the heads before that."""
    single: Bool[Tensor, " t"]
    """Whether no other place has the same embedding, so that the token is in its picture once."""
    free: Float[Tensor, "q d"]
    """Directions of a token in which that is still so."""
    misfit: Float[Tensor, " t"]
    """What the place leaves unexplained, in units of the token."""


@dataclass(frozen=True)
class Members:
    """Which picture each token belongs to, and how often it occurs there."""

    picture: Int[Tensor, " t"]
    copies: Int[Tensor, " t"]
    """Equal patches without places of their own are one token."""


def place(block: Block, found: Unrolled, where: Places, moves: Float[Tensor, "q d"]) -> Placed:
    """Fit every token at every place, and keep the best.

    What attention gave is known but for its doubt along these moves of the heads.
    """
    base = where.base
    free = torch.cat([where.moves, torch.ones_like(base[:1])])  # k+1 d
    moved = moves @ block.proj.weight.T
    values, vectors = torch.linalg.eigh(moved.T @ moved)
    values = values.clamp(min=0)
    floor = SURE * found.entered.square().mean(1)  # t
    k, t = len(where.basis), len(found.entered)
    at = torch.zeros(t, dtype=torch.long, device=base.device)
    misfit, answer = base.new_zeros(t), base.new_zeros(t, k)
    heads, scale = found.heads.clone(), found.scale.clone()
    inverse = torch.linalg.pinv(block.proj.weight)
    known = k + 2 < base.shape[1]  # else a place explains everything at some scale
    for one in range(t):
        weight = (found.doubt[one].square() * values + floor[one]).rsqrt()
        gap = ((found.entered[one] - base) @ vectors) * weight  # s d
        columns = torch.cat([free, found.unit[one][None]]) if known else free
        columns = (columns @ vectors) * weight
        moved = gap @ torch.linalg.pinv(columns)  # s k+2
        left = gap - moved @ columns
        for row in range(where.prefix):  # nothing but itself stands there
            moved[row, :k] = 0.0
            moved[row, k:] = torch.linalg.lstsq(columns[k:].T, gap[row][:, None]).solution[:, 0]
            left[row] = gap[row] - moved[row] @ columns
        at[one] = best = int(left.square().sum(1).argmin())
        answer[one] = moved[best, :k]
        if known:
            scale[one] -= moved[best, -1]
        # as much of what is left as the heads' doubt explains was theirs
        part = found.doubt[one].square() * values * weight.square()
        rest = (left[best] / weight) @ vectors.T
        theirs = (part * left[best] / weight) @ vectors.T
        heads[one] += inverse @ theirs
        misfit[one] = (rest - theirs).norm() / found.entered[one].norm()
    tokens = base[at] + answer @ where.moves
    single = (where.rows[at][:, None] == where.rows).all(2).sum(1) == 1
    return Placed(at, tokens, heads, answer, scale, found.doubt, single, free, misfit)


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
            surest = placed.doubt.masked_fill(~placed.single, torch.inf)[free]
            free = free[surest.argsort(stable=True).cpu()]
            if one == batch - 1:  # whoever is left over
                number[free] = one
            elif len(free):
                own = free[_held(*_equations(block, placed, int(free[0]), free)) > HELD]
                systems = [_equations(block, placed, int(at), free) for at in own[:WITNESSES]]
                system, target = (torch.cat(part) for part in zip(*systems, strict=True))
                number[free[_held(system, target) > HELD]] = one
    for one in range(batch):
        own = (number == one).nonzero().flatten()
        if 1 < len(own) < each:
            own = own[(~placed.single[own]).int().argsort(stable=True).cpu()]
            systems = [_equations(block, placed, int(at), own) for at in own]
            system, target = (torch.cat(part) for part in zip(*systems, strict=True))
            copies[own] = _held(system, target).round().long().clamp(min=1)
    return Members(number, copies)


def _equations(
    block: Block, placed: Placed, at: int, among: Int[Tensor, " m"]
) -> tuple[Float[Tensor, "d r"], Float[Tensor, " d"]]:
    """Return how often each of these but the first is in the picture of one, as a linear system.

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
    # what the place leaves open is as doubtful as before, and the rest is known
    doubt = float(placed.doubt[at])
    system = block.proj.weight @ system
    basis = torch.linalg.qr(placed.free.T).Q
    open_ = basis @ (basis.T @ system)
    sure = KNOWN * float(placed.tokens[at].square().mean().sqrt())
    system = (system - open_) / min(sure, doubt) + open_ / doubt
    return system[:, 1:], -system[:, 0]


def _held(system: Float[Tensor, "e m"], target: Float[Tensor, " e"]) -> Float[Tensor, " n"]:
    one = torch.ones(1, dtype=system.dtype)
    if not system.shape[1]:  # it is alone, and of a system without columns scipy frees memory twice
        return one
    return torch.cat([one, torch.from_numpy(nnls(system.cpu().numpy(), target.cpu().numpy())[0])])
