"""Ranks with their uncertainty: every pair of rows on the same pictures, tested, Holm-corrected."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from privbench.reports.stats import RESAMPLES, holm

LEVEL = 0.05
EXACT = 13
"""Units up to which all signs are tried: 2^13 of them are fewer than are drawn else."""
MOST_DRAWS = 100_000
SPARE = 40
"""Draws for each pair, so that the smallest p survives Holm's correction of so many pairs."""
MOST_ROWS = 70
"""Rows of one table that are ranked: more pairs than these have, no number of draws tells apart."""
BATCH = 10_000
"""Draws that are in memory at once."""
EQUAL = 1e-9
"""Of the sum of all differences: what rounding may move a sum."""

Units = Mapping[str, float]
"""Score of each unit that is drawn independently: a picture, or the mean of a batch."""


@dataclass(frozen=True)
class Rank:
    """One place, or several where no test tells rows apart; 1 leaks most."""

    first: int
    last: int

    def __str__(self) -> str:
        """Return the place, or its range."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def crowded(rows: Sequence[Units]) -> bool:
    """Whether more rows have a score than are ranked."""
    return sum(map(bool, rows)) > MOST_ROWS


def ranks(rows: Sequence[Units]) -> list[Rank | None]:
    """Return the places that each row may have among all, None of a row without any score.

    The first is one more than the number of rows that score significantly higher, the last leaves
    room for those that score significantly lower (sign flips, two-sided, Holm over all pairs at
    5 %). So rows that no test tells apart share places. Without any pair, or with more than
    MOST_ROWS rows, all are None.
    """
    scored = [i for i, row in enumerate(rows) if row]
    found: list[Rank | None] = [None] * len(rows)
    if not scored or crowded(rows):
        return found
    pairs = list(combinations(scored, 2))
    adjusted = holm(paired(rows, pairs))
    above, below = np.zeros(len(rows), int), np.zeros(len(rows), int)
    for (one, other), p in zip(pairs, adjusted, strict=True):
        if p <= LEVEL:
            common = rows[one].keys() & rows[other].keys()
            higher = sum(rows[one][unit] - rows[other][unit] for unit in common) > 0
            above[other if higher else one] += 1
            below[one if higher else other] += 1
    for i in scored:
        found[i] = Rank(1 + int(above[i]), len(scored) - int(below[i]))
    return found


def paired(rows: Sequence[Units], pairs: Sequence[tuple[int, int]]) -> list[float]:
    """Return two-sided p that the paired differences of rows have mean zero, NaN without units.

    As `sign_flip`, for many pairs at once: all pairs on the same units share their signs, so that
    a sum of flipped differences is a difference of two sums.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, (one, other) in enumerate(pairs):
        common = sorted(rows[one].keys() & rows[other].keys())
        groups.setdefault(tuple(common), []).append(place)
    draws = min(MOST_DRAWS, max(RESAMPLES, SPARE * len(pairs))) - 1
    found = [float("nan")] * len(pairs)
    for units, places in groups.items():
        if units:
            chosen = [pairs[place] for place in places]
            for place, p in zip(places, _together(rows, units, chosen, draws), strict=True):
                found[place] = p
    return found


def _together(
    rows: Sequence[Units],
    units: Sequence[str],
    pairs: Sequence[tuple[int, int]],
    draws: int,
) -> list[float]:
    """Return p of pairs of rows that have the same units in common."""
    used = sorted({i for pair in pairs for i in pair})
    values = np.array([[rows[i][unit] for i in used] for unit in units])
    one, other = (np.array([used.index(pair[side]) for pair in pairs]) for side in (0, 1))
    differences = values[:, one] - values[:, other]
    least = np.abs(differences.sum(0)) - EQUAL * np.abs(differences).sum(0)
    exact = len(units) <= EXACT
    beyond, count = np.zeros(len(pairs), int), 0
    for signs in _signs(len(units), draws):
        sums = signs @ values
        for k in range(len(pairs)):
            beyond[k] += int((np.abs(sums[:, one[k]] - sums[:, other[k]]) >= least[k]).sum())
        count += len(signs)
    # a draw that is not exhaustive counts the observed signs as one of the draws
    return ((beyond + (not exact)) / (count + (not exact))).tolist()


def _signs(n: int, draws: int) -> Iterator[NDArray[np.floating]]:
    """Yield signs of shape (draws, n) in parts: all that there are, or so many drawn ones.

    A sum and its negative count alike, so of all signs half are enough.
    """
    if n <= EXACT:
        bits = np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1
        yield 1.0 - 2.0 * bits
        return
    rng = np.random.default_rng(0)
    for start in range(0, draws, BATCH):
        yield 1.0 - 2.0 * rng.integers(0, 2, (min(BATCH, draws - start), n), dtype=np.int8)
