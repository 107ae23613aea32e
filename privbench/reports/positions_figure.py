"""The picture of a position study: a pure function of its table."""

import textwrap
from itertools import cycle, product
from typing import TYPE_CHECKING, Any

import pandas as pd

from privbench.reports.axes import GREY, SMALL, Look, canvas, dress, looks, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, LINE, ROW, FRAME = 10.0, 0.15, 0.2, 1.9  # inches
LONGEST_LINE = 34
"""Letters of a row's name."""
STROKES = ("-", "-.")
"""Of victims."""
SHADES, BROKEN = ("#333333", "#999999", "#c0c0c0"), (":", "--")
"""Of the tables to compare with, which belong to no victim."""
HOLLOW = "os^D"
"""Markers of published models."""
TASKS = (("absolute_2d", "absolute", "o", -0.14), ("relative_2d", "relative", "D", 0.14))


Row = dict[Any, Any]


def draw(table: pd.DataFrame) -> bytes:
    """Render what privbench.study.positions.study returns as a PNG.

    Left: cumulative explained variance in percent by components, published values hollow. Right:
    mean absolute error in patches of reading row and column, and their differences, with 95 %
    intervals, and that of a guess. One row of the table has one color and stroke on both sides.
    """
    return png(figure(table))


def figure(table: pd.DataFrame) -> "Figure":
    """Lay both sides out; rows without a number keep their line."""
    rows = table.to_dict("records")
    names = [_name(row) for row in rows]
    lines = sum(name.count("\n") + 1 for name in names)
    height = max(FRAME + LINE * lines + ROW * len(rows), 4.4)
    whole = canvas(WIDTH, height, layout="constrained")
    left, right = whole.subplots(1, 2)
    given = _looks(rows)
    _variance(left, rows, given)
    _errors(right, rows, given, names)
    corners: list[tuple[Axes, Any]] = [
        (left, "outside lower left"),
        (right, "outside lower right"),
    ]
    for axes, corner in corners:
        handles, labels = axes.get_legend_handles_labels()
        if handles:
            whole.legend(
                handles, labels, loc=corner, ncols=len(handles), fontsize=SMALL, frameon=False
            )
    return whole


def _looks(rows: list[Row]) -> list[Look]:
    """Color and stroke of each row; what is no victim is grey and broken."""
    victims, others = looks(STROKES), cycle(product(SHADES, BROKEN))
    found: list[Look] = []
    for row in rows:
        if _text(row["weights"]):
            found.append(next(victims))
        else:
            color, stroke = next(others)
            found.append({"color": color, "linestyle": stroke})
    return found


def _text(cell: object) -> str:
    """Return what a cell says; an empty one is not a number once the table was in a file."""
    return cell if isinstance(cell, str) else ""


def _name(row: Row) -> str:
    detail = f"{row['n']} × {row['d']}"  # noqa: RUF001
    if weights := _text(row["weights"]):
        detail = f"weights {weights}, {detail}"
    lines = [*textwrap.wrap(row["model"], LONGEST_LINE), *textwrap.wrap(detail, LONGEST_LINE)]
    return "\n".join(lines)


def _variance(axes: "Axes", rows: list[Row], given: list[Look]) -> None:
    shares = [name for name in rows[0] if str(name).startswith("pca_")] if rows else []
    components = [int(name.removeprefix("pca_")) for name in shares]
    for row, look in zip(rows, given, strict=True):
        axes.plot(components, [row[name] for name in shares], **look, lw=1.4)
    published = {row["paper_says"]: row for row in rows if _text(row["paper_says"])}
    for (model, row), marker in zip(sorted(published.items()), cycle(HOLLOW), strict=False):
        found = [name for name in row if str(name).startswith("paper_says_pca_")]
        axes.plot(
            [int(name.removeprefix("paper_says_pca_")) for name in found],
            [row[name] for name in found],
            marker,
            label=f"paper says: {model}",
            markerfacecolor="none",
            markeredgecolor="black",
            markersize=5,
            zorder=3,
        )
    dress(
        axes,
        "Variance within the first components",
        "principal components of the position table",
        "cumulative explained variance, %",
    )
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylim(0, 103)
    axes.set_xlim(0.5, max(components, default=1) + 0.5)
    axes.set_xticks([k for k in components if k == 1 or k % 5 == 0])


def _errors(axes: "Axes", rows: list[Row], given: list[Look], names: list[str]) -> None:
    for place, (row, look) in enumerate(zip(rows, given, strict=True)):
        for task, _, marker, shift in TASKS:
            mean, low, high, floor = (
                row[f"mae_{task}{end}"] for end in ("", "_lo", "_hi", "_floor")
            )
            y = place + shift
            axes.plot([low, high], [y, y], color=look["color"], lw=1.4)
            axes.plot(mean, y, marker, color=look["color"], markersize=4.5)
            axes.plot(floor, y, "|", color=GREY, markersize=8, zorder=1)
        # the stroke that stands for this row on the left
        stroke = axes.plot([-0.09, -0.02], [place, place], **look, lw=1.8, clip_on=False)[0]
        stroke.set_transform(axes.get_yaxis_transform())
    for _, label, marker, _ in TASKS:
        axes.plot([], [], marker, color=GREY, markersize=4.5, label=f"{label} row and column")
    axes.plot([], [], "|", color=GREY, markersize=8, label="guessing the mean")
    title = "Error of a place read from its embedding"
    dress(axes, title, "mean absolute error, patches", rules="x")
    axes.set_yticks(range(len(rows)), names, parse_math=False)
    axes.tick_params("y", length=0, pad=30)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    # a mark at zero is a whole one
    axes.set_xlim(left=-0.025 * axes.get_xlim()[1])
