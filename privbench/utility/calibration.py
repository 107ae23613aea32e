"""Whether a model's confidence means something: RMS calibration error and AURRA.

Both as in the evaluation of ImageNet-A (arXiv:1907.07174). Pictures of equal confidence count as
equally often right, so no order among them changes a figure.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from privbench.errors import NotFinite
from privbench.reports.stats import with_intervals

BIN = 100
"""Pictures in a bin, as the released script has it; the last one takes the rest."""
RESAMPLES = 2000
"""Of the bootstrap, as in detection."""

Floats = NDArray[np.float64]


def rms_error(right: Floats, confidence: Floats, *, released: bool = False) -> float:
    """Root mean squared gap between confidence and accuracy over bins of equal size; in [0, 1].

    `released` leaves out the last bin, as the released script does (natural-adv-examples,
    calibration_tools.py): for comparison with published figures only. NaN where that leaves none.
    Raises NotFinite.
    """
    return _rms(*_sorted(right, confidence), released=released)


def aurra(right: Floats, confidence: Floats) -> float:
    """Area under the response rate accuracy curve: mean accuracy of the most confident k, over k.

    Pictures 0 ... k - 1 are answered, those of highest confidence first; in [0, 1].
    Raises NotFinite.
    """
    return _aurra(_sorted(right, confidence)[0])


def calibration(right: Floats, confidence: Floats) -> dict[str, tuple[float, float, float]]:
    """Return rms, rms_released and aurra, each with its 95 % percentile bootstrap interval.

    Raises NotFinite.
    """
    found = _figures(*_sorted(right, confidence))
    drawn = [_figures(*one) for one in _resampled(*_sorted(right, confidence))]
    return with_intervals(found, drawn)


def require_finite(name: str, values: Floats) -> None:
    """Raise NotFinite where a column has NaN or infinity: sorting would give it some rank."""
    if wrong := int((~np.isfinite(values)).sum()):
        raise NotFinite(
            f"The column of {name} is NaN or infinite for {wrong} of {len(values)} pictures, and "
            "no figure over the others stands for all. Measure the model anew with another --out."
        )


def _figures(right: Floats, confidence: Floats) -> dict[str, float]:
    return {
        "rms": _rms(right, confidence, released=False),
        "rms_released": _rms(right, confidence, released=True),
        "aurra": _aurra(right),
    }


def _sorted(right: Floats, confidence: Floats) -> tuple[Floats, Floats]:
    """Sort by confidence, upwards; ties share their mean."""
    require_finite("right answers", right)
    require_finite("confidence", confidence)
    levels, which = np.unique(confidence, return_inverse=True)
    share = np.bincount(which, right) / np.bincount(which)
    order = np.argsort(which, kind="stable")
    return share[which[order]], levels[which[order]]


def _resampled(right: Floats, confidence: Floats) -> Iterator[tuple[Floats, Floats]]:
    """Yield bootstrap samples, in order already."""
    rng, n = np.random.default_rng(0), len(right)
    for _ in range(RESAMPLES if n else 0):
        counts = rng.multinomial(n, np.full(n, 1 / n))
        yield np.repeat(right, counts), np.repeat(confidence, counts)


def _rms(right: Floats, confidence: Floats, *, released: bool) -> float:
    if not (n := len(right)) or (released and n < 2 * BIN):
        return float("nan")
    starts = np.arange(max(n // BIN, 1)) * BIN
    sizes = np.diff(np.append(starts, n))
    terms = sizes / n * (np.add.reduceat(confidence - right, starts) / sizes) ** 2
    return float(np.sqrt((terms[:-1] if released else terms).sum()))


def _aurra(right: Floats) -> float:
    if not len(right):
        return float("nan")
    answered = np.arange(1, len(right) + 1)
    return float((np.cumsum(right[::-1]) / answered).mean())
