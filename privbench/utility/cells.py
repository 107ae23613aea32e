"""Errors by corruption and severity, whatever part of them was measured: a pure function."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from privbench.records.utility import UtilityRecord
from privbench.reports.columns import interval, kind_of
from privbench.utility.corruption_error import CLEAN, Cells, PerImage, missing
from privbench.utility.tasks import Task, tasks

KEYS = ("model", "weights", "weights_sha256", "defense")
FACTS = (*KEYS, "evaluation", "dataset", "seed", "corruption", "severity", "cells", "n")
FIGURES = ("error", "mean_error")
ALL = "all"
FULL = len(missing({}))
"""Cells that make a mean error."""
COLUMNS = (*FACTS, *(f"{name}{end}" for name in FIGURES for end in ("", "_lo", "_hi")))

Row = dict[str, Any]


def corruption_table(records: Iterable[UtilityRecord]) -> pd.DataFrame:
    """Return a row per model, data, corruption and severity with its top-1 error in percent.

    error: of one corruption at one severity (none, 0: clean). mean_error: of one corruption over
    the severities that were measured (severity all), or of one severity over the corruptions that
    were (corruption all), by picture; cells says how many these are. Pictures that could not be
    read in all of them do not count. Empty means not measured.
    """
    rows = []
    for who, measured in sorted(tasks(records).items()):
        for task in measured:
            facts = dict(zip(KEYS, who, strict=True)) | {
                "evaluation": task.name,
                "dataset": task.dataset,
                "seed": task.passes[0].case.seed,
            }
            rows += [facts | row for row in _rows(task.cells())]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def partial(task: Task) -> bool:
    """Say whether a task has errors that no mean over 15 corruptions and 5 severities holds."""
    cells = {cell for cell in task.cells() if cell != CLEAN}
    return bool(cells) and (bool(missing(task.cells())) or len(cells) > FULL)


def _rows(cells: Cells) -> Iterator[Row]:
    single = sorted(cells, key=lambda cell: (cell != CLEAN, cell))
    for corruption, severity in single:
        yield _row(corruption, severity, "error", [cells[corruption, severity]])
    corrupted = [cell for cell in single if cell != CLEAN]
    for corruption in dict.fromkeys(name for name, _ in corrupted):
        some = [cells[cell] for cell in corrupted if cell[0] == corruption]
        if len(some) > 1:
            yield _row(corruption, ALL, "mean_error", some)
    for severity in sorted({level for _, level in corrupted}):
        some = [cells[cell] for cell in corrupted if cell[1] == severity]
        if len(some) > 1:
            yield _row(ALL, severity, "mean_error", some)


def _row(corruption: str, severity: int | str, figure: str, wrong: list[PerImage]) -> Row:
    """Return one figure; sets of different size under one name make no mean."""
    row: Row = {"corruption": corruption, "severity": severity, "cells": len(wrong)}
    if len({len(one) for one in wrong}) > 1:
        return row | {"n": 0}
    mean = 100 * np.mean(wrong, axis=0)
    known = mean[~np.isnan(mean)]
    kind = kind_of("corruptions", figure)
    assert kind is not None
    ends = zip(
        (figure, f"{figure}_lo", f"{figure}_hi"), interval(kind, known.tolist()), strict=True
    )
    return row | {"n": len(known)} | dict(ends)
