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
from privbench.roles import Block

MAY, FITS = 0.3, 0.02
"""Share of a token that its place may leave unexplained, before and after it has settled."""
ODD = 5.0
"""Times as much as half of its picture has, from which a token that does not fit is put out."""
SWEEPS, FEW = 2, 8
"""Times that each empty seat is tried; passes after each trial."""
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
        return torch.where(self.sure[..., None], where.patches(self.answer), 0.0)


def seats(placed: Placed, members: Members, where: Places, batch: int) -> Int[Tensor, "b s"]:
    """Seat tokens in their pictures: the surest first, any seat where many fit."""
    rows = where.rows
    alike = (rows[:, None] == rows).all(2).cpu()
    taken = torch.full((batch, len(rows)), -1)
    for one in placed.misfit.argsort().tolist():
        row, picture = int(placed.place[one]), int(members.picture[one])
        if placed.misfit[one] > MAY:
            continue
        free = (alike[row] & (taken[picture] < 0)).nonzero().flatten()
        if taken[picture, row] < 0:
            free = torch.cat([torch.tensor([row]), free[free != row]])
        taken[picture, free[: int(members.copies[one])]] = one
    return taken


class Settling:
    """Passes over pictures whose tokens have their seats."""

    def __init__(
        self, block: Block, found: Float[Tensor, "t d"], placed: Placed, where: Places
    ) -> None:
        self.block, self.found, self.placed, self.where = block, found, placed, where
        self.free = torch.cat([where.moves, -torch.ones_like(where.base[:1])])
        self.inverse = torch.linalg.pinv(self.free.T)  # k+1 d

    def run(self, token: Int[Tensor, "b s"]) -> Settled:
        """Guess what is missing, settle, and put out who does not fit; again while there is one."""
        token = token.clone()
        while True:
            here = self._here(token)
            answer = self._guess(token, here)
            answer, misfit = self.passes(token, answer, PASSES)
            worst = misfit.argmax(1, keepdim=True)
            usual = misfit.masked_fill(~here, torch.nan).nanmedian(1, keepdim=True).values
            odd = misfit.gather(1, worst) > (ODD * usual).nan_to_num(torch.inf).clamp(min=FITS)
            if not odd.any():
                return Settled(answer, here)
            seated = token[:, self.where.prefix :]
            seated.scatter_(1, worst.cpu(), torch.where(odd, -1, seated.gather(1, worst.cpu())))

    def passes(
        self, token: Int[Tensor, "b s"], answer: Float[Tensor, "b n k"], count: int
    ) -> tuple[Float[Tensor, "b n k"], Float[Tensor, "b n"]]:
        """Compute what attention gives, fit each patch to what its token says then, and again.

        Also returns the share of each seated token that is left unexplained.
        """
        here = self._here(token)
        one = token[:, self.where.prefix :][here.cpu()].to(answer.device)
        unit, scale = self.found[one], self.placed.scale[one]
        off = unit - unit @ self.inverse.T @ self.free
        known = len(self.free) + 1 < unit.shape[1]  # else the places leave every scale possible
        answer, misfit = answer.clone(), answer.new_zeros(here.shape)
        for _ in range(count if len(one) else 0):
            target = self.where.behind(self.block, answer)[here]
            if known:
                scale = (off * target).sum(1) / off.square().sum(1)
            gap = scale[:, None] * unit - target
            new = gap @ self.inverse.T
            misfit[here] = (gap - new @ self.free).norm(dim=1) / target.norm(dim=1)
            step = (new[:, :-1] - answer[here]).norm() / new.norm()
            answer[here] = new[:, :-1]
            if step < STILL:
                break
        return answer, misfit

    def _here(self, token: Int[Tensor, "b s"]) -> Bool[Tensor, "b n"]:
        return (token[:, self.where.prefix :] >= 0).to(self.where.base.device)

    def _guess(
        self, token: Int[Tensor, "b s"], here: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b n k"]:
        """Start from the tokens' own patches, and on empty seats from what suits the others best.

        Patches are missing mostly where several are much alike, so each of the picture is tried.
        """
        origin, basis = self.where.origin[self.where.prefix :], self.where.basis
        answer = origin.new_zeros(*here.shape, len(basis))
        one = token[:, self.where.prefix :][here.cpu()].to(answer.device)
        answer[here] = self.placed.answer[one]
        like = (self.where.patches(answer) * here[..., None]).sum(1)
        like = like / here.sum(1, keepdim=True).clamp(min=1)
        mean = (like[:, None] - origin) @ basis.T
        answer = torch.where(here[..., None], answer, mean)
        mostly = here.double().mean(1) > 0.5
        for _ in range(SWEEPS):
            for picture, seat in (~here & mostly[:, None]).nonzero().tolist():
                own = origin[here[picture]] + answer[picture, here[picture]] @ basis
                tried = answer[picture].expand(len(own) + 1, -1, -1).clone()
                tried[1:, seat] = (own - origin[seat]) @ basis.T
                settled, misfit = self.passes(token[picture].expand(len(tried), -1), tried, FEW)
                answer[picture] = settled[int(misfit.sum(1).argmin())]
        return answer
