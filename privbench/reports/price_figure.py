"""Figure of leakage against price: what each defense still gives away, and what it costs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from privbench.errors import BadData
from privbench.records.case import UNDEFENDED
from privbench.reports.axes import COLORS, GREY, NORMAL, RULE, SMALL, Look, canvas, dress
from privbench.reports.board import LEAK, Section
from privbench.reports.flags import evident
from privbench.reports.joined import figures
from privbench.reports.labels import spread
from privbench.reports.leaderboard import KEYS, LEAKS, VOID
from privbench.reports.leak_figures import LEAKAGE, TOP, pareto
from privbench.reports.lettering import wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PRICE, FORM = "price_points", "price_form"
WIDTH, HEIGHT, REST = 8.6, 4.4, 0.7
"""Inches of the figure, of each panel, and of what stands above and below."""
LABEL = 1.5
"""Inches of a line of a label."""
WIDE = 10.0
"""Points of top-1 from which on the axis is logarithmic above one point."""
STEPS = 24
"""Points of each stretch of the front that a label had better not hide."""
EMPTY = (
    "No row has both a leak and a price. Run `privbench price` and `privbench run` on the same "
    "victims and defenses, with the same --out."
)

FRONT: Look = {
    "marker": "o",
    "ms": 5,
    "color": COLORS[0],
    "label": "on the front: none costs less and leaks less",
}
BEATEN: Look = {
    "marker": "s",
    "ms": 4,
    "color": COLORS[1],
    "label": "another one costs and leaks no more",
}
NO_PROOF: Look = {
    "marker": "D",
    "ms": 4,
    "color": GREY,
    "mfc": "white",
    "label": "no evidence: no attack made for it has run, or none works",
}
CEILING, FLOOR = "what any attack could expect (ceiling)", "mean color (floor)"
BAR: Look = {"marker": "_", "ms": 7, "mew": 1.2, "color": GREY, "linestyle": "none"}
LEGEND = (FRONT["label"], BEATEN["label"], NO_PROOF["label"], CEILING, FLOOR)

Row = Mapping[str, Any]
Ends = tuple[float, float, float]
"""Mean, and the ends of its interval; the mean, where there is none."""


@dataclass(frozen=True)
class Point:
    """One defense, with its settings, on one victim."""

    defense: str
    price: Ends
    """In points of top-1."""
    leak: Ends
    """In dB."""
    floor: float
    ceiling: float | None
    counts: bool
    """Whether the row is evidence, with the attacks that have run."""

    @property
    def found(self) -> float:
        """What is known to leak: no attack that stays near the floor has found anything."""
        return self.leak[0] if self.leak[0] >= self.floor + LEAKS else self.floor


def points_of(rows: Iterable[Row]) -> dict[str, list[Point]]:
    """Return by victim a point for each row that has a leak and a price.

    The undefended victim costs nothing, and is a point where any of its defenses is.
    """
    found: dict[str, list[Point]] = {}
    bare: dict[str, list[Point]] = {}
    for row in rows:
        priced, plain = _known(row, PRICE), row["defense"] == UNDEFENDED
        if not _known(row, LEAK) or not (priced or plain):
            continue
        point = Point(
            str(row["defense"]),
            _ends(row, PRICE) if priced else (0.0, 0.0, 0.0),
            _ends(row, LEAK),
            float(row["psnr_floor"]),
            float(row["ceiling"]) if _known(row, "ceiling") else None,
            evident(row),
        )
        (found if priced else bare).setdefault(str(row["model"]), []).append(point)
    return {model: [*bare.get(model, ()), *points] for model, points in found.items()}


def _known(row: Row, name: str) -> bool:
    value = row.get(name)
    return value is not None and value == value


def _ends(row: Row, name: str) -> Ends:
    mean = float(row[name])
    low, high = (
        float(row[name + end]) if _known(row, name + end) else mean for end in ("_lo", "_hi")
    )
    return mean, min(low, mean), max(high, mean)


def front(points: Iterable[Point]) -> list[Point]:
    """Return the points that no other beats in both, the cheapest first: price, and what leaks.

    Those that are no evidence are no part of it. Of all that stay at the floor the cheapest is.
    """
    able = [point for point in points if point.counts]
    kept = set(pareto((-point.price[0], point.found) for point in able))
    best = {(-point.price[0], point.found): point for point in reversed(able)}
    return sorted((best[place] for place in kept), key=lambda point: point.price[0])


def of_tables(table: pd.DataFrame, joined: Sequence[pd.DataFrame]) -> list[dict[str, Any]]:
    """Return rows for `against_price` of a written leaderboard.csv and tables that join it.

    Of all attacks on a victim under a defense the strongest; what forbids to take it for evidence
    is read from its notes.
    """
    names = [key for key in KEYS if key in table.columns and key != "attack"]
    scored = table.query("n > 0").sort_values(LEAK, ascending=False, kind="stable")
    found = []
    for row in scored.drop_duplicates(names).to_dict("records"):
        notes = str(row.get("notes", "")).split(" | ")
        raised = {
            "void": VOID in notes,
            "unranked": any(note.startswith("Unranked:") for note in notes),
            "no control": not _known(row, "psnr_control"),
        }
        flags = ", ".join(name for name, there in raised.items() if there)
        named = {str(key): value for key, value in row.items()}
        found.append(named | figures(joined, named) | {"flags": flags})
    return found


def price_figures(pooled: Sequence[Section]) -> dict[str, "Figure"]:
    """Return a figure for each section that has prices, by name."""
    found: dict[str, Figure] = {}
    for number, section in enumerate(pooled):
        if points_of(section.rows):
            name = f"price-{number + 1}" if found else "price"
            found[name] = against_price(section.rows, section.title)
    return found


def against_price(rows: Iterable[Row], title: str) -> "Figure":
    """Draw each defense's leak against its price, a panel for each victim.

    Rows are those of one protocol, of the strongest attack each. Raises BadData where none has a
    price.
    """
    rows = list(rows)
    panels = points_of(rows)
    if not panels:
        raise BadData(EMPTY)
    figure = canvas(WIDTH, HEIGHT * len(panels) + REST, layout="constrained")
    grid = figure.subplots(len(panels), sharex=True, sharey=True, squeeze=False)[:, 0]
    figure.suptitle(
        wrap(f"Leakage against price: {title}", WIDTH, NORMAL),
        fontsize=NORMAL,
        x=0.01,
        ha="left",
        parse_math=False,
    )
    for axes, (model, points) in zip(grid, panels.items(), strict=True):
        _panel(axes, points)
        dress(axes, model, "", LEAKAGE)
    _scale(grid[-1], [point for points in panels.values() for point in points])
    price = f"price: points of top-1 that training with it loses{_form(rows)} (bars: 95 %)"
    grid[-1].set_xlabel(price)
    grid[-1].xaxis.label.set_fontsize(SMALL)
    shown = [axes.get_legend_handles_labels() for axes in grid]
    handles = {label: one for some in shown for one, label in zip(*some, strict=True)}
    known = [name for name in LEGEND if name in handles]
    figure.legend(
        [handles[name] for name in known],
        known,
        loc="outside lower center",
        ncols=3,
        fontsize=SMALL,
        frameon=False,
    )
    figure.draw_without_rendering()  # labels need places on the canvas
    for axes, points in zip(grid, panels.values(), strict=True):
        _label(axes, points)
    return figure


def _form(rows: Iterable[Row]) -> str:
    """Return how long a training the prices are of: a short one's points are no full one's."""
    forms = sorted({str(row[FORM]) for row in rows if _known(row, PRICE) and _known(row, FORM)})
    return f", {' and '.join(forms)} form{'s' if len(forms) > 1 else ''}" if forms else ""


def _panel(axes: "Axes", points: Sequence[Point]) -> None:
    best = front(points)
    for point in points:
        look = FRONT if point in best else BEATEN if point.counts else NO_PROOF
        (x, *xs), (y, *ys) = point.price, point.leak
        if point.ceiling is not None:
            axes.vlines(x, y, max(y, point.ceiling), color=RULE, lw=1, zorder=0.5)
            axes.plot(x, point.ceiling, label=CEILING, **BAR)
        axes.errorbar(
            x,
            y,
            xerr=[[x - xs[0]], [xs[1] - x]],
            yerr=[[y - ys[0]], [ys[1] - y]],
            lw=0.8,
            linestyle="none",
            **look,
        )
    if len(best) > 1:
        places = [(point.price[0], point.leak[0]) for point in best]
        axes.plot(*zip(*places, strict=True), color=FRONT["color"], lw=1, ls="--", zorder=0.8)
    floor = float(np.mean([point.floor for point in points]))
    axes.axhline(floor, color=GREY, lw=1, ls=":", label=FLOOR)
    axes.set_ylim(0, TOP)


def _scale(axes: "Axes", points: Sequence[Point]) -> None:
    """Small prices side by side, and large ones still on the axis."""
    low = min(0.0, *(point.price[1] for point in points))
    high = max(1.0, *(point.price[2] for point in points))
    if high > WIDE:
        axes.set_xscale("symlog", linthresh=1.0, linscale=1.0)
        ticks = [0, 0.5, *(m * 10**k for k in range(3) for m in (1, 2, 5))]
        axes.set_xticks([tick for tick in ticks if tick <= 1.2 * high])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()
        axes.set_xlim(low - 0.35, 1.6 * high)
    else:
        axes.set_xlim(low - 0.06 * (high - low), high + 0.12 * (high - low))


def _label(axes: "Axes", points: Sequence[Point]) -> None:
    """Write the names beside the points, with a line to those that found no place near."""
    inches = axes.transData - axes.figure.dpi_scale_trans

    def place(*data: tuple[float, float]) -> np.ndarray:
        return 72 * inches.transform(data)

    texts = [
        axes.annotate(
            wrap(point.defense, LABEL, SMALL),
            (point.price[0], point.leak[0]),
            (0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=SMALL,
            parse_math=False,
            in_layout=False,
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": GREY, "shrinkA": 0, "shrinkB": 3},
        )
        for point in points
    ]
    scale = 72 / axes.figure.dpi
    at = place(*((point.price[0], point.leak[0]) for point in points))
    sizes = np.array([one.get_window_extent().size for one in texts]) * scale
    left, bottom, right, top = (scale * edge for edge in axes.bbox.extents)
    lines = np.stack([place(*bar).ravel() for point in points for bar in _bars(point)])
    best = [(point.price[0], point.leak[0]) for point in front(points)]
    way = _steps(place(*best)) if best else at[:0]
    level = place((0.0, points[0].floor))[0, 1]
    hidden = np.concatenate([lines, np.tile(way, 2), [[left, level, right, level]]])
    centers = spread(at, sizes, (left, bottom, right, top), hidden)
    for text, offset in zip(texts, centers - at, strict=True):
        text.set_position(tuple(offset))


def _bars(point: Point) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return what a label had better not hide: intervals, and the way to the ceiling."""
    (x, left, right), (y, low, high) = point.price, point.leak
    top = max(high, point.ceiling or 0.0)
    return [((left, y), (right, y)), ((x, low), (x, top))]


def _steps(corners: np.ndarray) -> np.ndarray:
    """Return points along a line through its corners, shape (n, 2)."""
    places = np.arange(len(corners))
    fine = np.linspace(0, len(corners) - 1, STEPS * len(corners))
    return np.stack([np.interp(fine, places, one) for one in corners.T], 1)
