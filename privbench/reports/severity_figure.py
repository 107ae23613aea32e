"""The picture of error against severity: a pure function of utility records."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from privbench.corruption_names import COUNTED, SEVERITIES
from privbench.kind import Kind
from privbench.records.utility import UtilityRecord
from privbench.reports.axes import curves, png
from privbench.reports.columns import interval
from privbench.utility.corruption_error import CLEAN, missing
from privbench.utility.tasks import Task, tasks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Line = list[tuple[float, float, float, float]]
"""Severity, mean, and the ends of its interval, in percent."""


def draw(records: Iterable[UtilityRecord]) -> dict[str, bytes]:
    """Render `figures` as PNGs, by the task's name."""
    return {name: png(figure) for name, figure in figures(records).items()}


def figures(records: Iterable[UtilityRecord]) -> dict[str, "Figure"]:
    """Draw mean top-1 error over the 15 corruptions by severity, a figure per task, by its name.

    A line per model, its 95 % intervals (bootstrap over pictures) as a band; severity 0 is clean.
    """
    lines: dict[str, dict[str, Line]] = {}
    counts: dict[str, set[int]] = {}
    for (model, weights, digest, _), measured in sorted(tasks(records).items()):
        for task in measured:
            if task.recipe and not missing(task.cells()):
                named = lines.setdefault(task.name, {})
                label = f"{model}, {weights}"
                if sum(one.name == task.name for one in measured) > 1:
                    label += f", {task.dataset}, n = {task.n:,}"
                if label in named:
                    label = label.replace(weights, digest, 1)
                named[label] = _line(task)
                counts.setdefault(task.name, set()).add(task.n)
    drawn = {}
    for name, named in lines.items():
        n = " or ".join(f"{count:,}" for count in sorted(counts[name]))
        drawn[name] = curves(
            named,
            f"Error under corruption, {name}, n = {n}",
            "severity (0: clean)",
            "top-1 error, % (mean of 15 corruptions; band: 95 % interval)",
        )
    return drawn


def _line(task: Task) -> Line:
    cells = task.cells()
    levels = {s: np.mean([cells[c, s] for c in COUNTED], axis=0) for s in SEVERITIES}
    if CLEAN in cells:
        levels[0] = cells[CLEAN]
    found: Line = []
    for severity, wrong in sorted(levels.items()):
        kind = Kind.MEAN if severity else Kind.PERCENT  # of 15 views of a picture, or of one
        mean, low, high = interval(kind, (100 * wrong[~np.isnan(wrong)]).tolist())
        found.append((float(severity), mean, low, high))
    return found
