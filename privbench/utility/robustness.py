"""Utility records to the table of robustness, one row per model: a pure function.

What a record is about, its condition and columns say: corruptions, pictures of another kind,
unknown classes. Every figure is named by its task, so two tasks never share a column, and empty
means not measured.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from privbench.records.sealed import newest_of_each
from privbench.records.utility import UtilityRecord
from privbench.reports.stats import mean_interval, share_interval
from privbench.utility.calibration import calibration
from privbench.utility.corruption_error import (
    HENDRYCKS,
    ROBUSTBENCH,
    Cells,
    Normalizer,
    PerImage,
    mce,
    mean_error,
    missing,
    normalizer_of,
    relative_mce,
)
from privbench.utility.detection import detection

KEYS = ("model", "weights", "weights_sha256", "defense", "dataset")
FIRST = ("top1", "top5")
LAST = ("agreement", "feature_distance", "kl")
"""What this table repeats of other evaluations, before and after the tests of robustness."""
CLEAN = ("none", 0)
PUBLISHED = {"imagenet": [HENDRYCKS, ROBUSTBENCH]}
"""Normalizers by recipe of the corruptions; for 32 px nobody published any."""

Row = dict[str, Any]
Who = tuple[str, str, str, str]
Rank = tuple[int, int, int]


@dataclass(frozen=True)
class Task:
    """Passes of one evaluation of one model."""

    name: str
    passes: Sequence[UtilityRecord]

    @property
    def recipe(self) -> str:
        """Recipe of the corruptions; empty where there are none."""
        return str(self.passes[0].case.condition.get("recipe", ""))

    @property
    def n(self) -> int:
        """Pictures of the first pass."""
        return self.passes[0].case.n

    def column(self, name: str, **condition: object) -> PerImage | None:
        """Return a column of the pass that has this condition; None where there is none."""
        for record in self.passes:
            if condition.items() <= record.case.condition.items() and name in record.values:
                return np.array(record.values[name], dtype=float)
        return None

    def cells(self) -> Cells:
        """Return wrong answers by corruption and severity, ("none", 0) for clean pictures."""
        return {
            (str(c["corruption"]), int(c["severity"])): np.array(one.values["wrong"], dtype=float)
            for one in self.passes
            if "corruption" in (c := one.case.condition)
        }


def robustness_table(records: Iterable[UtilityRecord]) -> pd.DataFrame:
    """Return a row per model and weights; each figure with its 95 % interval and its n.

    Errors and mCE are in percent, all else are shares of one (feature_distance and kl: as they
    are). Models without any test of robustness have no row.
    """
    found = tasks(records)
    rows = [row for who in sorted(found) if (row := _row(who, found))]
    table = pd.DataFrame(rows)
    facts = [name for name in KEYS if name in table.columns]
    figures = [name for name in table.columns if name not in facts]
    first = [name for name in figures if name.startswith(FIRST)]
    last = [name for name in figures if name.startswith(LAST)]
    middle = [name for name in figures if name not in (*first, *last)]
    return table.reindex(columns=[*facts, *first, *middle, *last])


def tasks(records: Iterable[UtilityRecord]) -> dict[Who, list[Task]]:
    """Return what was measured of each model: each evaluation at its newest, with the most passes.

    Cells of corruptions are of one number of pictures; of other passes the largest counts.
    """
    groups: dict[Who, dict[str, dict[Rank, dict[str, UtilityRecord]]]] = {}
    for one in sorted(
        newest_of_each(records, _question), key=lambda one: (one.case.n, one.case.key)
    ):
        case = one.case
        scheme = str(case.model.settings.get("scheme", ""))
        who = (case.model.label, case.weights, case.weights_sha256[:12], scheme)
        rank = (case.evaluation.version, -case.seed, case.n if "recipe" in case.condition else 0)
        group = groups.setdefault(who, {}).setdefault(case.evaluation.label, {})
        group.setdefault(rank, {})[str(sorted(case.condition.items()))] = one
    found: dict[Who, list[Task]] = {}
    for who, evaluations in groups.items():
        for name, ranked in sorted(evaluations.items()):
            best = max(ranked, key=lambda rank: (rank[0], len(ranked[rank]), *rank[1:]))
            found.setdefault(who, []).append(Task(name, list(ranked[best].values())))
    return found


def _question(record: UtilityRecord) -> Hashable:
    """Return what a newer record of the same would answer again."""
    case = record.case
    asked = (case.evaluation.label, str(sorted(case.condition.items())), case.dataset.label)
    return (case.model.label, case.weights, case.weights_sha256, *asked, case.n, case.seed)


def _row(who: Who, found: Mapping[Who, list[Task]]) -> Row:
    """Return all figures of a model; empty without a test of robustness."""
    row: Row = {}
    for task in found[who]:
        row |= _corrupted(task, _normalizers(task, who, found))
        row |= _shifted(task)
        row |= _outside(task)
    if not row:
        return {}
    plain = [record for task in found[who] for record in task.passes if not record.case.condition]
    for record in plain:
        for name, values in record.values.items():
            if name.startswith((*FIRST, *LAST)):
                row |= mean_figure(name, np.array(values, dtype=float))
    sets = {record.case.dataset.label for record in plain if "top1" in record.values}
    return dict(zip(KEYS, (*who, ", ".join(sorted(sets))), strict=True)) | row


def _normalizers(task: Task, who: Who, found: Mapping[Who, list[Task]]) -> list[Normalizer]:
    """Return what mCE may be divided by: published errors, else the undefended model's own."""
    if task.recipe in PUBLISHED:
        return PUBLISHED[task.recipe]
    control = task.passes[0].case.control
    for other, measured in found.items():
        if other[:2] == (control, who[1]):
            for same in measured:
                if same.name == task.name and same.n == task.n and not missing(same.cells()):
                    return [normalizer_of(other[0], same.cells())]
    return []


def _corrupted(task: Task, normalizers: Sequence[Normalizer]) -> Row:
    """Return mean errors under corruption; nothing unless all 75 cells are there."""
    cells = task.cells()
    if not cells or missing(cells):
        return {}
    error = mean_error(cells)
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
    """Return mean, interval and n of a column: Wilson's for a share, else a bootstrap."""
    known = values[~np.isnan(values)]
    if np.isin(known, (0, 1)).all():
        return _with(name, share_interval(int(known.sum()), len(known)), len(known))
    return _with(name, mean_interval(known.tolist()), len(known))


def _with(name: str, values: tuple[float, float, float], n: int) -> Row:
    return dict(zip((name, f"{name}_lo", f"{name}_hi"), values, strict=True)) | {f"{name}_n": n}
