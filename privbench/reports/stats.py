"""Intervals for means, and tests of paired differences."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
BATCH = 1000
"""Resamples drawn at once; the draws depend on it."""
COLUMNS = 256
"""Columns whose resamples are in memory at once: 20 MB."""
MOST_KEPT = 100_000
"""Intervals that are remembered; tables of one run repeat most of theirs."""
_INTERVALS: dict[bytes, tuple[float, float]] = {}


def share_interval(count: int, n: int) -> tuple[float, float, float]:
    """Share and its 95 % Wilson score interval; NaN without trials.

    >>> [round(value, 4) for value in share_interval(9, 10)]
    [0.9, 0.5958, 0.9821]
    """
    if not n:
        return float("nan"), float("nan"), float("nan")
    from scipy.stats import binomtest

    interval = binomtest(count, n).proportion_ci(method="wilson")
    return count / n, float(interval.low), float(interval.high)


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % percentile bootstrap interval over images; the interval of one value is NaN.

    Seeded by nothing but a constant: the same values give the same interval.
    """
    return mean_intervals([values])[0]


def mean_intervals(columns: Sequence[Sequence[float]]) -> list[tuple[float, float, float]]:
    """Return `mean_interval` of many columns; those of one length share their resamples."""
    arrays = [np.asarray(values, dtype=float) for values in columns]
    wanted = {one.tobytes(): one for one in arrays if len(one) > 1}
    lengths: dict[int, list[bytes]] = {}
    for content, one in wanted.items():
        if content not in _INTERVALS:
            lengths.setdefault(len(one), []).append(content)
    for contents in lengths.values():
        for start in range(0, len(contents), COLUMNS):
            part = contents[start : start + COLUMNS]
            ends = _percentiles(np.stack([wanted[content] for content in part], axis=1))
            _INTERVALS.update(zip(part, ends, strict=True))
    found = [
        (float(one.mean()), *_INTERVALS[one.tobytes()]) if len(one) > 1 else _of_few(one)
        for one in arrays
    ]
    if len(_INTERVALS) > MOST_KEPT:
        _INTERVALS.clear()
    return found


def _of_few(array: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(array.mean()) if len(array) else float("nan"), float("nan"), float("nan")


def _percentiles(values: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Return both ends for each column of shape (n, k); the draws depend on n alone.

    They are those of scipy.stats.bootstrap with the same generator and batches of a thousand. A
    resample's mean is how often each value was drawn, times the value, over n.
    """
    n, rng = len(values), np.random.default_rng(0)
    rows = np.arange(BATCH)[:, None] * n
    means = []
    for _ in range(RESAMPLES // BATCH):
        drawn = rng.integers(0, n, (BATCH, n))
        counts = np.bincount((rows + drawn).ravel(), minlength=BATCH * n).reshape(BATCH, n)
        means.append(counts.astype(float) @ values / n)
    ends = np.percentile(np.concatenate(means), (2.5, 97.5), axis=0)
    return [(float(low), float(high)) for low, high in ends.T]


def with_intervals(
    found: Mapping[str, float], drawn: Sequence[Mapping[str, float]]
) -> dict[str, tuple[float, float, float]]:
    """Return each figure with the 95 % percentile interval of its bootstrap values, NaN of none."""

    def end(name: str, percent: float) -> float:
        return float(np.percentile([one[name] for one in drawn], percent)) if drawn else np.nan

    return {name: (value, end(name, 2.5), end(name, 97.5)) for name, value in found.items()}


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p that paired differences have mean zero, by flipping signs at random.

    Exact where there are few enough; else from 9,999 draws, at least 1e-4. NaN without pairs.
    """
    array = np.asarray(differences, dtype=float)
    if not len(array):
        return float("nan")
    moved = array[array != 0]  # a zero stays zero whatever its sign
    if len(moved) <= 1:
        return 1.0  # either sign of a single one is as far from zero
    from scipy.stats import permutation_test

    found = permutation_test(
        (moved,),
        np.sum,
        permutation_type="samples",
        n_resamples=RESAMPLES - 1,
        batch=100,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def over_few(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Mean, 95 % interval and two-sided p of a zero mean, all Student's; NaN of a single value.

    For a handful of values, such as trainings, where a bootstrap's interval is too short.

    >>> [round(value, 3) for value in over_few([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484, 0.074]
    """
    array = np.asarray(values, dtype=float)
    mean, rest = float(array.mean()), float("nan")
    if len(array) < 2:
        return mean, rest, rest, rest
    if not array.std():
        return mean, mean, mean, 0.0 if mean else 1.0
    from scipy.stats import ttest_1samp

    found: Any = ttest_1samp(array, 0)
    low, high = found.confidence_interval(0.95)
    return mean, float(low), float(high), float(found.pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order given; NaN stays NaN and does not count.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    array = np.asarray(values, dtype=float)
    adjusted = np.full(len(array), np.nan)
    known = np.flatnonzero(~np.isnan(array))
    order = known[np.argsort(array[known], kind="stable")]
    steps = array[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1) if len(order) else steps
    return adjusted.tolist()


Strata = Sequence[NDArray[np.float64]]
"""Columns by picture, shape (n, k) each: pictures are drawn and swapped within their stratum."""


def paired_statistic(
    first: Strata, second: Strata, statistic: Callable[[Strata], float]
) -> tuple[float, float, float, float]:
    """Difference of a statistic on the same pictures: value, 95 % bootstrap interval, p.

    Two-sided p by swapping, picture by picture, which of the two gave which answer.
    """
    rng, rounds = np.random.default_rng(0), RESAMPLES // 10
    value = statistic(first) - statistic(second)
    drawn, swapped = [], []
    for _ in range(rounds):
        rows = [rng.integers(len(one), size=len(one)) for one in first]
        a, b = ([one[r] for one, r in zip(both, rows, strict=True)] for both in (first, second))
        drawn.append(statistic(a) - statistic(b))
        sides = [rng.integers(2, size=(len(one), 1)).astype(bool) for one in first]
        pairs = list(zip(first, second, sides, strict=True))
        a, b = ([np.where(s, x, y) for x, y, s in pairs], [np.where(s, y, x) for x, y, s in pairs])
        swapped.append(abs(statistic(a) - statistic(b)))
    low, high = np.percentile(drawn, (2.5, 97.5))
    beyond = int((np.array(swapped) >= abs(value) * (1 - 1e-12)).sum())
    return value, float(low), float(high), (1 + beyond) / (1 + rounds)
