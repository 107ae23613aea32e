"""Scores by picture, so that rows are compared on the same pictures."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

from privbench.records.case import Record, Scores

CERTIFIED = "certified"
"""Key of an attack's report: 1 where it proved its answer without the truth."""

Pictures = dict[tuple[str, int], float]
"""Score by digest of the batch and place in it."""


def per_picture(
    records: Iterable[Record],
    name: str,
    of: Callable[[Record], Scores] = lambda record: record.scores,
) -> Pictures:
    """Return the score of each picture that has one, the mean over seeds."""
    found: dict[tuple[str, int], list[float]] = {}
    for record in records:
        for place, value in enumerate(of(record).get(name, ())):
            if value is not None and isfinite(value):
                found.setdefault((record.case.images_sha256, place), []).append(value)
    return {key: sum(values) / len(values) for key, values in found.items()}


def per_batch(pictures: Mapping[tuple[str, int], float]) -> dict[str, float]:
    """Return the mean of each batch: pictures of one update are no independent draws."""
    found: dict[str, list[float]] = {}
    for (batch, _), value in pictures.items():
        found.setdefault(batch, []).append(value)
    return {batch: sum(values) / len(values) for batch, values in found.items()}


def best(records: Iterable[Record], name: str, among: Iterable[tuple[str, int]]) -> Pictures:
    """Return the best score of each of these pictures over attacks, members and seeds.

    Nobody can select it without the truth.
    """
    wanted, found = set(among), Pictures()
    for record in records:
        if record.status != "done":
            continue
        high = record.metrics[name]["higher_is_better"]
        for scores in (record.scores, *record.members.values()):
            for place, value in enumerate(scores.get(name, ())):
                key = record.case.images_sha256, place
                if key in wanted and value is not None and isfinite(value):
                    known = found.get(key, value)
                    found[key] = max(known, value) if high else min(known, value)
    return found


def certified(done: Sequence[Record]) -> float | None:
    """Return the share of pictures in updates whose answer was proved; None if nobody proves."""
    counted = [
        (len(record.case.images), record.report.get(CERTIFIED))
        for record in done
        if CERTIFIED in record.report
    ]
    if not counted:
        return None
    return sum(size * (sure or 0.0) for size, sure in counted) / sum(size for size, _ in counted)


def metric_facts(done: Iterable[Record]) -> Mapping[str, Mapping[str, Any]]:
    """Return unit, direction and cap of every metric that the records have."""
    found: dict[str, Mapping[str, Any]] = {}
    for record in done:
        found |= {name: record.metrics[name] for name in record.scores}
    return dict(sorted(found.items()))
