"""Pictures from tokens that are placed: seats, and the last approach to what sits on them.

What attention gave a token can be read off the update, but only as well as the tokens' gradients
differ, and those of a trained model are much alike. Once a picture's tokens are together it can be
computed instead; each pass of that brings the patches nearer.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from privbench.attacks._peel.gather import Members, Placed, Places
from privbench.vit import ViT

MAY, FITS = 0.3, 0.02
"""Share of a token that its place may leave unexplained, before and after it has settled."""
PASSES = 60
"""At most; each shrinks the error by a factor of some units, as attention adds little."""
STILL = 1e-10
"""Relative step below which patches have settled."""


@dataclass(frozen=True)
class Settled:
    """What sits on each seat of each picture."""

    patches: Float[Tensor, "b n p"]
    token: Int[Tensor, "b s"]
    """Number of the token on each seat, prefix first; -1 where none is."""
    misfit: Float[Tensor, " m"]
    """Share of each seated token that is left unexplained, picture after picture."""


def seats(placed: Placed, members: Members, where: Places, batch: int) -> Int[Tensor, "b s"]:
    """Seat tokens in their pictures: the surest first, any seat where many fit."""
    rows = where.rows
    alike = (rows[:, None] == rows).all(2).cpu()
    taken = torch.full((batch, len(rows)), -1)
    for one in placed.misfit.argsort().tolist():
        row, picture = int(placed.place[one]), int(members.picture[one])
        if picture < 0 or placed.misfit[one] > MAY:
            continue
        free = (alike[row] & (taken[picture] < 0)).nonzero().flatten()
        if taken[picture, row] < 0:
            free = torch.cat([torch.tensor([row]), free[free != row]])
        taken[picture, free[: int(members.copies[one])]] = one
    return taken


def settle(
    vit: ViT, found: Float[Tensor, "t d"], placed: Placed, token: Int[Tensor, "b s"], where: Places
) -> Settled:
    """Compute what attention gives, fit each patch to what its token says then, and again."""
    block, embed, before = vit.block(0), vit.stem.weight, where.prefix
    base = where.rows + where.origin @ embed.T  # s d
    moves = where.basis @ embed.T  # k d
    here = (token[:, before:] >= 0).to(base.device)
    one = token[:, before:][here.cpu()].to(base.device)
    unit = found[one]
    at = here.nonzero()[:, 1] + before
    ones = torch.ones_like(unit[:1])
    free = torch.cat([moves, -ones])
    inverse = torch.linalg.pinv(free.T)  # k+1 d
    off = unit - unit @ inverse.T @ free
    scale = placed.scale[one]
    known = len(free) + 1 < unit.shape[1]  # else the places leave every scale possible
    answer = base.new_zeros(*here.shape, len(moves))
    answer[here] = placed.answer[one]
    misfit = scale.clone()
    for _ in range(PASSES if len(one) else 0):
        tokens = base.expand(len(token), -1, -1).clone()
        tokens[:, before:] += answer @ moves
        given = block.proj(block.heads(block.norm1(tokens)))[:, before:][here]
        target = base[at] + given
        if known:
            scale = (off * target).sum(1) / off.square().sum(1)
        gap = scale[:, None] * unit - target
        new = gap @ inverse.T
        misfit = (gap - new @ free).norm(dim=1) / target.norm(dim=1)
        step = (new[:, :-1] - answer[here]).norm() / new.norm()
        answer[here] = new[:, :-1]
        if step < STILL:
            break
    patches = where.origin[before:] + answer @ where.basis
    patches[~here] = 0.0  # the mean color, which is worth more than the mean of its place
    wrong = misfit > FITS
    if wrong.any():  # those have no say in what the others get
        token = token.clone()
        seated = token[:, before:]
        seated[tuple(here.nonzero()[wrong].T.cpu())] = -1
        return settle(vit, found, placed, token, where)
    return Settled(patches, token, misfit)
