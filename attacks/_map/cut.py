"""Entries that a defense left out for their size: below the smallest that it kept, or above all.

That much is public, and as good as an observation: by expectation propagation each entry's bounds
become a Gaussian, whose mean and variance are those which give the entry, as all others predict it,
the moments that it has within its bounds.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CHANCE = 10.0
"""How many kept entries an entry's bounds would have to be missing, were entries kept at random."""
DAMPING = 0.5
"""Share of a step that is taken; set by reason."""
NARROW, WIDE = 1 / 12, 1.0
"""Least variance that bounds leave, and least that all other entries are taken to leave, as shares
of the lower bound's square: a wrong picture is sure of much. Set by reason."""
SMALLEST = 1e-8
"""The same below which numbers are not told apart."""
TENTH, NEAR = 10, 0.95
"""Which of the largest kept sizes is at least such a share of the largest, if larger ones are
missing: of what is not cut off the tenth is 20 % below (a Gaussian's 12,000)."""

Some = Float[Tensor, "*n"]


class Bounds(NamedTuple):
    """Sizes between which no entry was left out; the upper one is infinite if none was above."""

    low: float
    high: float


class Cut(NamedTuple):
    """Entries of a tensor that were left out for their size."""

    missing: Bool[Tensor, "..."]
    within: Bounds

    def first(self, known: Tensor) -> Tensor:
        """Return precisions as if missing entries were anywhere below; none if some are above."""
        if math.isfinite(self.within.high):
            return known
        return torch.where(self.missing, 3 / self.within.low**2, known)

    def settle(
        self, mean: Tensor, variance: Tensor, values: Tensor, known: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return values and precisions with those of missing entries set by their bounds."""
        at = self.missing
        found = sites(mean[at], variance[at], values[at], known[at], self.within)
        values, known = values.clone(), known.clone()
        values[at], known[at] = found
        return values, known


def bounds(tensor: Tensor, kept: Bool[Tensor, "..."]) -> Bounds | None:
    """Return the bounds of entries that were not kept; None where they could be of any size.

    Entries kept at random are as small as any: about one of n is below the n-th part of the median.
    """
    sizes = tensor[kept].double().abs()
    if not len(sizes) or float(sizes.min()) < CHANCE / len(sizes) * float(sizes.median()):
        return None
    largest = sizes.topk(min(TENTH, len(sizes))).values
    cut = float(largest[-1]) > NEAR * float(largest[0])
    return Bounds(float(sizes.min()), float(largest[0]) if cut else math.inf)


def moments(mean: Some, variance: Some, within: Bounds) -> tuple[Some, Some]:
    """Mean and variance of a Gaussian, given that its size is below `low` or above `high`."""
    root = variance.sqrt()
    parts = [_between(mean, root, -within.low, within.low)]
    if math.isfinite(within.high):
        parts += [_between(mean, root, within.high, math.inf)]
        parts += [_between(mean, root, -math.inf, -within.high)]
    weights = torch.stack([log for log, _, _ in parts]).softmax(0)
    means = torch.stack([one for _, one, _ in parts])
    squares = torch.stack([spread for _, _, spread in parts]) + means.square()
    first = (weights * means).sum(0)
    return first, ((weights * squares).sum(0) - first.square()).clamp(min=0)


def _between(mean: Some, root: Some, low: float, high: float) -> tuple[Some, Some, Some]:
    """Return the logarithm of a Gaussian's share between two ends, its mean and variance there."""
    flip = torch.where((low - mean) + (high - mean) > 0, -1.0, 1.0)  # the far end to the right
    if math.isinf(low) or math.isinf(high):
        flip = torch.full_like(mean, 1.0 if math.isinf(low) else -1.0)
    ends = (low - mean) / root, (high - mean) / root
    upper = torch.where(flip > 0, ends[1], -ends[0])
    lower = torch.where(flip > 0, ends[0], -ends[1])
    large, small = torch.special.log_ndtr(upper), torch.special.log_ndtr(lower)
    share = large + torch.log1p(-(small - large).exp().clamp(max=1 - 1e-15))
    half = math.log(2 * math.pi) / 2
    at_upper = (-upper.square() / 2 - half - share).exp()
    at_lower = (-lower.square() / 2 - half - share).exp()
    wide = torch.where(lower.isinf(), 0.0, lower * at_lower)
    shift = at_lower - at_upper
    left = 1 + wide - upper * at_upper - shift.square()
    # far from both ends all of it lies at the nearer one
    middle = mean + flip * root * shift
    middle = middle.clamp(min=low, max=high)
    return share, middle, (root.square() * left).clamp(min=0).minimum(root.square())


def sites(
    mean: Some, variance: Some, values: Some, known: Some, within: Bounds
) -> tuple[Some, Some]:
    """Return values and precisions that stand for entries' bounds, from those before.

    `mean` and `variance` are what all entries say, these among them.
    """
    variance = variance.clamp(min=SMALLEST * within.low**2)
    rest = (1 / variance - known).clamp(min=1e-3 / variance)
    there = (mean / variance - known * values) / rest
    rest = rest.clamp(max=1 / (WIDE * within.low**2))
    away = 1 / rest
    first, second = moments(there, away, within)
    second = second.clamp(min=NARROW * within.low**2)
    found = (1 / second - rest).clamp(min=0)
    pull = first / second - rest * there
    pull = torch.where(found > 0, pull, 0)
    after = (1 - DAMPING) * known + DAMPING * found
    pull = (1 - DAMPING) * known * values + DAMPING * pull
    return torch.where(after > 0, pull / after.clamp(min=1e-300), 0), after
