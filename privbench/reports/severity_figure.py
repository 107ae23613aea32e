"""The picture of error against severity: a pure function of utility records."""

import io
from collections.abc import Iterable
from itertools import cycle, product
from typing import TYPE_CHECKING

import numpy as np

from privbench.corruption_names import COUNTED, SEVERITIES
from privbench.records.utility import UtilityRecord
from privbench.reports.stats import mean_interval
from privbench.utility.corruption_error import missing
from privbench.utility.robustness import CLEAN, Task, tasks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE = (7.0, 4.2)  # inches
SMALL, NORMAL = 7.5, 9.0  # points
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
STROKES = ("-", "--", ":")

Line = list[tuple[int, float, float, float]]
"""Severity, mean, and the ends of its interval, in percent."""


def draw(records: Iterable[UtilityRecord]) -> dict[str, bytes]:
    """Render mean top-1 error over the 15 corruptions by severity, a PNG per task, by its name.

    A line per model, its 95 % intervals (bootstrap over pictures) as a band; severity 0 is clean.
    """
    lines: dict[str, dict[str, Line]] = {}
    counts: dict[str, set[int]] = {}
    for (model, weights, digest, _), measured in sorted(tasks(records).items()):
        for task in measured:
            if task.recipe and not missing(task.cells()):
                named = lines.setdefault(task.name, {})
                label = f"{model}, {weights}" if model not in named else f"{model}, {digest}"
                named[label] = _line(task)
                counts.setdefault(task.name, set()).add(task.n)
    pictures = {}
    for name, named in lines.items():
        buffer = io.BytesIO()
        figure = _figure(name, named, sorted(counts[name]))
        figure.savefig(buffer, format="png", metadata={"Software": None})
        pictures[name] = buffer.getvalue()
    return pictures


def _line(task: Task) -> Line:
    cells = task.cells()
    levels = {s: np.mean([cells[c, s] for c in COUNTED], axis=0) for s in SEVERITIES}
    if CLEAN in cells:
        levels[0] = cells[CLEAN]
    found: Line = []
    for severity, wrong in sorted(levels.items()):
        mean, low, high = mean_interval((100 * wrong[~np.isnan(wrong)]).tolist())
        found.append((severity, mean, low, high))
    return found


def _figure(name: str, lines: dict[str, Line], counts: list[int]) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    canvas = Figure(SIZE, dpi=160, facecolor="white", layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots()
    for (label, line), (style, color) in zip(
        lines.items(), cycle(product(STROKES, COLORS)), strict=False
    ):
        severities, mean, low, high = zip(*line, strict=True)
        axes.plot(severities, mean, marker="o", ms=3, lw=1.4, ls=style, color=color, label=label)
        axes.fill_between(severities, low, high, color=color, alpha=0.15, lw=0)
    n = " or ".join(f"{count:,}" for count in counts)
    axes.set_title(f"Error under corruption, {name}, n = {n}", fontsize=NORMAL, loc="left")
    axes.set_xlabel("severity (0: clean)", fontsize=SMALL)
    axes.set_ylabel("top-1 error, % (mean of 15 corruptions; band: 95 % interval)", fontsize=SMALL)
    axes.set_xticks((0, *SEVERITIES))
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e4e4", lw=0.6)
    axes.set_axisbelow(True)
    canvas.legend(loc="outside right center", fontsize=SMALL, frameon=False)
    return canvas
