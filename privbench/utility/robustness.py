"""Utility records to the table of robustness, one row per model: a pure function.

What a record is about, its condition and columns say: corruptions, pictures of another kind,
unknown classes. Every figure is named by its task, so two tasks never share a column, and empty
means not measured.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from privbench.records.utility import UtilityRecord
from privbench.reports.columns import interval, kind_of
from privbench.utility.calibration import calibration
from privbench.utility.corruption_error import (
    CLEAN,
    HENDRYCKS,
    ROBUSTBENCH,
    Normalizer,
    PerImage,
    mce,
    mean_error,
    missing,
    normalizer_of,
    relative_mce,
)
from privbench.utility.detection import detection
from privbench.utility.tasks import Task, Who, tasks

KEYS = ("model", "weights", "weights_sha256", "defense", "dataset")
FIRST = ("top1", "top5")
LAST = ("agreement", "feature_distance", "kl")
"""What this table repeats of other evaluations, before and after the tests of robustness."""
PUBLISHED = {"imagenet": [HENDRYCKS, ROBUSTBENCH]}
"""Normalizers by recipe of the corruptions; for 32 px nobody published any."""

Row = dict[str, Any]


def robustness_table(records: Iterable[UtilityRecord]) -> pd.DataFrame:
    """Return a row per model, weights and data; each figure with its 95 % interval and its n.

    Errors and mCE are in percent, all else are shares of one (feature_distance and kl: as they
    are). Where one test was made of several sets of data, each has a row. Models without any test
    of robustness have no row.
    """
    found = tasks(records)
    rows = [row for who in sorted(found) for row in _rows(who, found)]
    table = pd.DataFrame(rows)
    facts = [name for name in KEYS if name in table.columns]
    figures = [name for name in table.columns if name not in facts]
    first = [name for name in figures if name.startswith(FIRST)]
    last = [name for name in figures if name.startswith(LAST)]
    middle = [name for name in figures if name not in (*first, *last)]
    return table.reindex(columns=[*facts, *first, *middle, *last])


def _rows(who: Who, found: Mapping[Who, list[Task]]) -> list[Row]:
    """Return all figures of a model; none without a test of robustness.

    Row i has the set i of each test that was made of several, and the only one of others.
    """
    tests: dict[str, list[tuple[Task, Row]]] = {}
    plain: dict[str, list[Task]] = {}
    for task in found[who]:
        if not task.passes[0].case.condition:
            plain.setdefault(task.name, []).append(task)
        elif row := {
            **_corrupted(task, who, found),
            **_shifted(task),
            **_outside(task),
        }:
            tests.setdefault(task.name, []).append((task, row))
    rows = []
    for i in range(max(map(len, tests.values()), default=0)):
        chosen = [
            some[i if len(some) > 1 else 0]
            for some in tests.values()
            if i < len(some) or len(some) == 1
        ]
        rows.append(_row(who, chosen, [_beside(some, chosen, i) for some in plain.values()]))
    return rows


def _row(who: Who, tests: Sequence[tuple[Task, Row]], plain: Sequence[Task]) -> Row:
    row: Row = {}
    sets = []
    for task in plain:
        part = task.passes[0].case.evaluation
        changed = part.label.removeprefix(part.name)  # tells the same columns apart
        for name, values in task.passes[0].values.items():
            if name.startswith((*FIRST, *LAST)):
                row |= mean_figure(name + changed, np.array(values, dtype=float))
        sets += [task.dataset] if "top1" in task.passes[0].values else []
    sets += [task.dataset for task, _ in tests]
    named = ", ".join(sorted(set(sets)))
    figures: Row = {}
    for _, one in tests:
        figures |= one
    return dict(zip(KEYS, (*who, named), strict=True)) | figures | row


def _beside(plain: Sequence[Task], tests: Sequence[tuple[Task, Row]], i: int) -> Task:
    """Return the plain pictures of a row: those that its tests are about or compare with."""
    names = {name for task, _ in tests for name in (task.dataset, task.compared)}
    fitting = [task for task in plain if task.dataset in names] or list(plain)
    return fitting[min(i, len(fitting) - 1)]


def _normalizers(task: Task, who: Who, found: Mapping[Who, list[Task]]) -> list[Normalizer]:
    """Return what mCE may be divided by: published errors, else the undefended model's own."""
    if task.recipe in PUBLISHED:
        return PUBLISHED[task.recipe]
    control = task.passes[0].case.control
    for other, measured in found.items():
        if other[:2] == (control, who[1]):
            for same in measured:
                if (same.name, same.data) == (task.name, task.data) and not missing(same.cells()):
                    return [normalizer_of(other[0], same.cells())]
    return []


def _corrupted(task: Task, who: Who, found: Mapping[Who, list[Task]]) -> Row:
    """Return mean errors under corruption; nothing unless all 75 cells are there."""
    cells = task.cells()
    if not cells or missing(cells):
        return {}
    normalizers, error = _normalizers(task, who, found), mean_error(cells)
    row = mean_figure(f"{task.name}_mean_error", error)
    clean = cells.get(CLEAN)
    if clean is not None:
        row |= mean_figure(f"{task.name}_clean_error", 100 * clean)
    for normalizer in normalizers:
        row |= mean_figure(f"{task.name}_mCE_{normalizer.name}", mce(cells, normalizer))
    if clean is not None and len(clean) == len(error):
        row |= mean_figure(f"{task.name}_added_error", error - 100 * clean)
        for one in normalizers:
            if one.clean is not None:
                row |= mean_figure(
                    f"{task.name}_rel_mCE_{one.name}", relative_mce(cells, clean, one)
                )
    return row


def _shifted(task: Task) -> Row:
    """Return accuracy and calibration on pictures of another kind."""
    row: Row = {}
    for kind, ending in (("shifted", ""), ("clean", "_clean")):
        right = task.column("right", pictures=kind)
        confidence = task.column("confidence", pictures=kind)
        if right is not None and confidence is not None:
            name, known = f"{task.name}{ending}", ~np.isnan(right)
            row |= mean_figure(f"{name}_top1", right)
            for figure, values in calibration(right[known], confidence[known]).items():
                row |= _with(f"{name}_{figure}", values, int(known.sum()))
    return row


def _outside(task: Task) -> Row:
    """Return how well unknown classes are told from known ones."""
    inside, outside = (task.column("outsideness", side=side) for side in ("inside", "outside"))
    if inside is None or outside is None:
        return {}
    inside, outside = inside[~np.isnan(inside)], outside[~np.isnan(outside)]
    row: Row = {}
    for figure, values in detection(inside, outside).items():
        row |= _with(f"{task.name}_{figure}", values, len(outside))
    return row | {f"{task.name}_inside_n": len(inside)}


def mean_figure(name: str, values: PerImage) -> Row:
    """Return mean, interval and n of a column of the table, as its kind asks for."""
    known = values[~np.isnan(values)]
    kind = kind_of("robustness", name)
    assert kind is not None, name
    return _with(name, interval(kind, known.tolist()), len(known))


def _with(name: str, values: tuple[float, float, float], n: int) -> Row:
    return dict(zip((name, f"{name}_lo", f"{name}_hi"), values, strict=True)) | {f"{name}_n": n}
