"""Places of patches by what several rounds show of the same pictures.

A round shows a batch in an order of its own, and some patches moved or without a place. What a
picture holds is the same in all rounds, so pictures and patches are matched by content, and each
round votes for where it saw a patch. A round whose patches nobody has found still votes: linear
algebra says of each place what a patch there has to be like.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

FAR = 0.4
"""Root mean square difference, in standard deviations of a pixel, from which two patches have
nothing in common; set by reason, as the numbers below."""
SAME = 0.08
"""Below which a patch of another round is one that is known."""
HABIT = 1e-3
"""Share of a vote that decides where votes are even: for what more rounds have seen, and for a
patch that stays."""


def alike(one: Float[Tensor, "m p"], other: Float[Tensor, "n p"]) -> Float[np.ndarray, "m n"]:
    """How much two patches agree: 1 where they are equal, 0 where they have nothing in common."""
    apart = torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")
    return (1 - apart / (FAR * one.shape[1] ** 0.5)).clamp(min=0).cpu().numpy()


@dataclass(frozen=True)
class Shown:
    """What one round shows: normalized patches, in the places where they entered the network."""

    patches: Float[Tensor, "b n p"]
    sure: Bool[Tensor, "b n"]
    """Which of them are known."""
    told: Bool[Tensor, " n"]
    """Places whose embedding tells them from others."""

    def votes(self, picture: int, found: Float[Tensor, "q p"]) -> Float[np.ndarray, "q n"]:
        """Say how well each of these patches agrees with what stood at each place."""
        return alike(found, self.patches[picture]) * (self.sure[picture] & self.told).cpu().numpy()


@dataclass(frozen=True)
class Hint:
    """What linear algebra says of a round: at place s stood origin[s] + a @ basis for some a."""

    origin: Float[Tensor, "n p"]
    basis: Float[Tensor, "k p"]
    """Orthonormal."""
    told: Bool[Tensor, " n"]

    def votes(self, _: int, found: Float[Tensor, "q p"]) -> Float[np.ndarray, "q n"]:
        """Say how well each of these patches agrees with what is known of each place."""
        rest = found - found @ self.basis.T @ self.basis
        return alike(rest, self.origin) * self.told.cpu().numpy()


@dataclass(frozen=True)
class Voted:
    """Pictures that all rounds together show."""

    patches: Float[Tensor, "b n p"]
    """The mean color, which is zero, where none is known."""
    known: Bool[Tensor, "b n"]
    placed: Bool[Tensor, "b n"]
    """Where a round has seen the patch, so that no order has to be guessed."""


def aligned(rounds: Sequence[Shown]) -> list[Shown]:
    """Bring pictures into one order: that of the round that knows most of them."""
    best = max(rounds, key=lambda one: int(one.sure.sum()))
    return [one if one is best else _in_order(one, best) for one in rounds]


def _in_order(one: Shown, best: Shown) -> Shown:
    b = len(best.patches)
    score = np.zeros((b, b))
    for i in range(b):
        for j in range(b):
            pairs = alike(best.patches[i][best.sure[i]], one.patches[j][one.sure[j]])
            score[i, j] = pairs[linear_sum_assignment(pairs, maximize=True)].sum()
    order = torch.from_numpy(linear_sum_assignment(score, maximize=True)[1])
    return Shown(one.patches[order], one.sure[order], one.told)


def voted(rounds: Sequence[Shown], hints: Sequence[Hint]) -> Voted:
    """Put every patch of every picture where most rounds have seen it; pictures are in order."""
    patches = torch.zeros_like(rounds[0].patches)
    known = torch.zeros(patches.shape[:2], dtype=torch.bool)
    placed = known.clone()
    for picture in range(len(patches)):
        found, often = _contents([(one.patches[picture], one.sure[picture]) for one in rounds])
        if not len(found):
            continue
        votes = np.sum([one.votes(picture, found) for one in (*rounds, *hints)], axis=0)
        content, place = linear_sum_assignment(votes + HABIT * often[:, None], maximize=True)
        patches[picture, place] = found[content]
        known[picture, place] = True
        placed[picture, place] = torch.from_numpy(votes[content, place] > 0)
    return Voted(patches, known, placed)


def _contents(
    views: Sequence[tuple[Float[Tensor, "n p"], Bool[Tensor, " n"]]],
) -> tuple[Float[Tensor, "q p"], Float[np.ndarray, " q"]]:
    """Return the patches that a picture holds, means over rounds, and in which share of these."""
    pool: list[list[Tensor]] = []
    for patches, sure in views:
        own, met = patches[sure], dict[int, int]()
        if pool:
            fit = alike(torch.stack([torch.stack(one).mean(0) for one in pool]), own)
            pairs = zip(*linear_sum_assignment(fit, maximize=True), strict=True)
            met = {new: at for at, new in pairs if fit[at, new] > 1 - SAME / FAR}
        for new, patch in enumerate(own):
            if new in met:
                pool[met[new]].append(patch)
            else:
                pool.append([patch])
    found = [torch.stack(one).mean(0) for one in pool]
    share = np.array([len(one) / len(views) for one in pool])
    return torch.stack(found) if found else views[0][0][:0], share


def order_of(
    entered: Float[Tensor, "n p"], picture: Float[Tensor, "n p"], fixed: Bool[Tensor, " n"]
) -> Int[Tensor, " n"]:
    """Where each patch that entered stands in the picture; at fixed places it has not moved."""
    fit, still = alike(entered, picture), fixed.cpu().numpy()
    fit[still] = 0
    fit[:, still] = 0
    stays = np.diag(np.where(still, len(fit), HABIT))
    return torch.from_numpy(linear_sum_assignment(fit + stays, maximize=True)[1])
