"""The picture of accuracy against shuffling: a pure function of the utility table."""

import io
import re
from itertools import cycle, product
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE = (7.0, 4.2)  # inches
SMALL, NORMAL = 7.5, 9.0  # points
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
STROKES = ("-", "--", ":")
COLUMN = re.compile(r"shuffled_([\d.]+)")

Row = dict[Any, Any]


def draw(table: pd.DataFrame) -> bytes | None:
    """Render top-1 accuracy by the ratio of shuffled patches as a PNG.

    A line per row of `utility_table`, its 95 % intervals as a band; ratio 0 is plain accuracy.
    None without such columns, and where rows are of different pictures.
    """
    found = ((COLUMN.fullmatch(str(name)), str(name)) for name in table.columns)
    columns = {float(match[1]): name for match, name in found if match}
    rows: list[Row] = [
        row for row in table.to_dict("records") if any(row[c] == row[c] for c in columns.values())
    ]
    if not rows or len({(row["dataset"], row["n"]) for row in rows}) > 1:
        return None
    if "top1" in table.columns:
        columns[0.0] = "top1"
    buffer = io.BytesIO()
    _figure(rows, columns).savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _figure(rows: list[Row], columns: dict[float, str]) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    canvas = Figure(SIZE, dpi=160, facecolor="white", layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots()
    names = [str(row["model"]) for row in rows]
    for row, (style, color) in zip(rows, cycle(product(STROKES, COLORS)), strict=False):
        ratios = sorted(ratio for ratio, name in columns.items() if row[name] == row[name])
        mean, low, high = (
            [100 * row[f"{columns[ratio]}{end}"] for ratio in ratios] for end in ("", "_lo", "_hi")
        )
        twin = names.count(str(row["model"])) > 1
        label = f"{row['model']}, {row['weights']}" if twin else str(row["model"])
        axes.plot(ratios, mean, marker="o", ms=3, lw=1.4, ls=style, color=color, label=label)
        axes.fill_between(ratios, low, high, color=color, alpha=0.15, lw=0)
    axes.set_title(
        f"Accuracy on {rows[0]['dataset']} with shuffled patches, n = {rows[0]['n']:,}",
        fontsize=NORMAL,
        loc="left",
    )
    axes.set_xlabel("nominal share of shuffled patches (block-wise)", fontsize=SMALL)
    axes.set_ylabel("top-1 accuracy, % (band: 95 % interval)", fontsize=SMALL)
    axes.set_xticks(sorted(columns))
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e4e4", lw=0.6)
    axes.set_axisbelow(True)
    canvas.legend(loc="outside right center", fontsize=SMALL, frameon=False)
    return canvas
