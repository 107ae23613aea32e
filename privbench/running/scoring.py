"""What an answer is worth, by every metric that there is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment

from privbench.component import make, names
from privbench.errors import NotFinite
from privbench.metric import Metric, Target
from privbench.records.case import Scores
from privbench.threat import Images


@dataclass(frozen=True)
class Marks:
    """Scores as a record holds them."""

    scores: Scores
    floor: Scores
    """Of the victim's mean color, which needs no update."""
    members: Mapping[str, Scores]
    metrics: Mapping[str, Mapping[str, object]]


def all_metrics(chosen: Iterable[str] | None = None) -> dict[str, Metric]:
    """Return metrics by name, all of them unless some are chosen; raises UnknownName."""
    return {name: make(Metric, name, {}) for name in chosen or names(Metric.shelf)}


def mark(
    metrics: Mapping[str, Metric],
    target: Target,
    images: Images,
    mean: Images,
    members: Mapping[str, Images],
) -> Marks:
    """Score an answer, each member of an ensemble, and the mean color; raises NotFinite.

    A table leaves out what is no number, and would average over the other pictures.
    """
    return Marks(
        scores=_scores(metrics, images, target),
        floor=_scores(metrics, mean, target),
        members={name: _scores(metrics, one, target) for name, one in members.items()},
        metrics={name: facts(metric) for name, metric in metrics.items()},
    )


def aligned(found: Images, truth: Images) -> Images:
    """Return a batch in the order of the truth."""
    return found[align(found, truth)]


def align(found: Images, truth: Images) -> list[int]:
    """Match a batch one to one by squared error, once for all metrics."""
    cost = torch.cdist(found.flatten(1), truth.flatten(1)).square()  # found truth
    rows, columns = linear_sum_assignment(cost.cpu().numpy())
    order = [0] * len(rows)
    for row, column in zip(rows, columns, strict=True):
        order[column] = int(row)
    return order


def facts(metric: Metric) -> dict[str, object]:
    """Return what a table must know of a metric."""
    return {
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "cap": metric.cap,
        "version": metric.version,
        "weights_sha256": metric.weights_sha256,
    }


def _scores(metrics: Mapping[str, Metric], found: Images, target: Target) -> Scores:
    scores = {
        name: metric.score(found, target)
        for name, metric in metrics.items()
        if metric.applies(target)
    }
    if wrong := [name for name, values in scores.items() if not values.isfinite().all()]:
        raise NotFinite(
            f"Metric '{wrong[0]}' gives NaN or infinity for this answer. Look at the answer, or at "
            "the metric: where it means nothing, its `applies` says so."
        )
    return {name: values.tolist() for name, values in scores.items()}
