"""The picture of accuracy against shuffling: a pure function of the utility table."""

import re
from typing import TYPE_CHECKING, Any

import pandas as pd

from privbench.reports.axes import curves, png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN = re.compile(r"shuffled_([\d.]+)")

Row = dict[Any, Any]


def draw(table: pd.DataFrame) -> bytes | None:
    """Render `figure` as a PNG; None where there is none."""
    whole = figure(table)
    return None if whole is None else png(whole)


def figure(table: pd.DataFrame) -> "Figure | None":
    """Draw top-1 accuracy by the ratio of shuffled patches.

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
    first = rows[0]
    return curves(
        _lines(rows, columns),
        f"Accuracy on {first['dataset']} with shuffled patches, n = {first['n']:,}",
        "nominal share of shuffled patches (block-wise)",
        "top-1 accuracy, % (band: 95 % interval)",
    )


def _lines(
    rows: list[Row], columns: dict[float, str]
) -> dict[str, list[tuple[float, float, float, float]]]:
    """Return ratio, mean and interval in percent, by the name of a row."""
    names = [str(row["model"]) for row in rows]
    lines = {}
    for row, name in zip(rows, names, strict=True):
        if names.count(name) > 1:
            name = f"{name}, {row['weights']}"
        if name in lines:
            name = f"{name}, {row['weights_sha256']}, seed {row['seed']}"
        lines[name] = [
            (ratio, *(100 * row[f"{column}{end}"] for end in ("", "_lo", "_hi")))
            for ratio, column in sorted(columns.items())
            if row[column] == row[column]
        ]
    return lines
