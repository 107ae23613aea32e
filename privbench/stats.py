"""Intervals for means."""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000


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
    array = np.asarray(values, dtype=float)
    if len(array) < 2:
        return float(array.mean()) if len(array) else float("nan"), float("nan"), float("nan")
    from scipy.stats import bootstrap

    found = bootstrap(
        (array,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=1000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(array.mean()), float(found.low), float(found.high)
