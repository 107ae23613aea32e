"""How well a score tells pictures of unknown classes from known ones, as ImageNet-O asks.

Outside pictures are the positives; a higher score means "outside" (arXiv:1907.07174, section 4).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from privbench.reports.stats import with_intervals
from privbench.utility.calibration import require_finite

RECALL = 0.95
"""Share of outside pictures that must be found, as in FPR95 (arXiv:1610.02136)."""
RESAMPLES = 2000
"""Of the bootstrap: a ranking's figures take thousands of times longer than a mean."""

Floats = NDArray[np.float64]


class Ranking:
    """Scores of both kinds of pictures, sorted once for any number of resamples.

    Pictures of equal score stand or fall together: no order among them changes a figure.
    Raises NotFinite.
    """

    def __init__(self, inside: Floats, outside: Floats) -> None:
        require_finite("scores of known classes", inside)
        require_finite("scores of unknown classes", outside)
        scores = np.concatenate([inside, outside])
        order = np.argsort(-scores, kind="stable")
        self.order, self.sizes = order, (len(inside), len(outside))
        self.outside = (order >= len(inside)).astype(float)
        ranked = scores[order]
        self.ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))

    def figures(self, weights: Floats | None = None) -> dict[str, float]:
        """Return aupr, auroc and fpr95, shares of one; NaN without pictures of both kinds.

        aupr: average precision, sum of precision times the gain in recall over all thresholds.
        auroc: chance that an outside picture scores higher than an inside one, ties counting half.
        fpr95: share of inside pictures above the highest threshold that keeps 95 % of the others.
        """
        if not all(self.sizes):
            return dict.fromkeys(("aupr", "auroc", "fpr95"), float("nan"))
        weight = np.ones(len(self.order)) if weights is None else weights[self.order]
        hits = np.cumsum(weight * self.outside)[self.ends]
        alarms = np.cumsum(weight * (1 - self.outside))[self.ends]
        gained = np.diff(hits, prepend=0)
        passed = np.diff(alarms, prepend=0)
        seen = np.maximum(hits + alarms, 1)  # zero only before the first resampled picture
        enough = int(np.searchsorted(hits, RECALL * hits[-1] * (1 - 1e-12)))
        return {
            "aupr": float((gained * hits / seen).sum() / hits[-1]),
            "auroc": float((passed * (hits - gained / 2)).sum() / (hits[-1] * alarms[-1])),
            "fpr95": float(alarms[enough] / alarms[-1]),
        }

    def resampled(self) -> Iterator[dict[str, float]]:
        """Yield the figures of bootstrap samples; each kind keeps its number of pictures."""
        rng = np.random.default_rng(0)
        for _ in range(RESAMPLES if all(self.sizes) else 0):
            counts = [rng.multinomial(size, np.full(size, 1 / size)) for size in self.sizes]
            yield self.figures(np.concatenate(counts).astype(float))


def detection(inside: Floats, outside: Floats) -> dict[str, tuple[float, float, float]]:
    """Return each figure with its 95 % percentile bootstrap interval; raises NotFinite."""
    ranking = Ranking(inside, outside)
    return with_intervals(ranking.figures(), [*ranking.resampled()])
