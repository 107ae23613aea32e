"""Pictures from tokens that are placed: seats, and the last approach to what sits on them.

What attention gave a token can be read off the update, but only as well as the tokens' gradients
differ, and those of a trained model are much alike. Once a picture's tokens are together it can be
computed instead; each pass of that brings the patches nearer.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from privbench.attacks._peel.gather import Members, Placed, Places
from privbench.vit import ViT

MAY, FITS = 0.3, 0.02
"""Share of a token that its place may leave unexplained, before and after it has settled."""
ODD = 5.0
"""Times as much as half of its picture has, from which a token that does not fit is put out."""
PASSES = 60
"""At most; each shrinks the error by a factor of some units, as attention adds little."""
STILL = 1e-10
"""Relative step below which patches have settled."""


@dataclass(frozen=True)
class Settled:
    """What sits on each seat of each picture."""

    answer: Float[Tensor, "b n k"]
    """Patches in coordinates of the places."""
    sure: Bool[Tensor, "b n"]
    """Where a patch is known."""

    def patches(self, where: Places) -> Float[Tensor, "b n p"]:
        """Return the patches; the mean color, which is worth more than the place's, for others."""
        found = where.origin[where.prefix :] + self.answer @ where.basis
        return torch.where(self.sure[..., None], found, 0.0)


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
    # whatever sits on an empty seat is likelier to be like its neighbors than of no color
    patches = where.origin[before:] + answer @ where.basis
    like = (patches * here[..., None]).sum(1) / here.sum(1, keepdim=True).clamp(min=1)
    guess = (like[:, None] - where.origin[before:]) @ where.basis.T
    answer = torch.where(here[..., None], answer, guess)
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
    token = token.clone()
    wrong = False
    for picture, own in enumerate(here.nonzero()[:, 0] == n for n in range(len(token))):
        worst = int(torch.where(own, misfit, 0.0).argmax()) if own.any() else 0
        if own.any() and misfit[worst] > max(FITS, ODD * float(misfit[own].median())):
            token[picture, int(at[worst])], wrong = -1, True
    # those have no say in what the others get
    return settle(vit, found, placed, token, where) if wrong else Settled(answer, here)
