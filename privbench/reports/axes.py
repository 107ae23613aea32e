"""What all figures have in common: canvas, letters, colors, strokes, axes."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, product
from typing import TYPE_CHECKING, Any, Literal

from privbench.reports.lettering import boxes_for_unknown_letters

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 160
SMALL, NORMAL = 7.5, 9.0
"""Letters in points."""
GREY, RULE = "#6b6b6b", "#e4e4e4"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Told apart by the color-blind (Okabe and Ito, 2008)."""
STROKES = ("-", "--", ":")
BAND = (7.0, 4.2)
"""Width and height in inches of a figure with curves and a legend at its right."""

METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
IDENTIFIER = re.compile(r"(\bid=\"|url\(#|href=\"#)")

Look = Mapping[str, Any]


def canvas(width: float, height: float, layout: Literal["constrained"] | None = None) -> "Figure":
    """Return an empty white figure of so many inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), dpi=DPI, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


def png(figure: "Figure") -> bytes:
    """Render a figure; the same figure always gives the same bytes."""
    buffer = io.BytesIO()
    with boxes_for_unknown_letters():
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: "Figure", name: str) -> str:
    """Render a figure as one SVG element, letters as letters; the same figure, the same text.

    All its identifiers begin with the name, so that several of them fit into one page.
    """
    from matplotlib import rc_context

    buffer = io.StringIO()
    with boxes_for_unknown_letters(), rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = METADATA.sub("", buffer.getvalue())
    text = IDENTIFIER.sub(rf"\g<1>{re.escape(name)}-", text[text.index("<svg") :])
    return text.replace("<svg ", '<svg role="img" ', 1)


def looks(strokes: Sequence[str] = STROKES) -> Iterator[Look]:
    """Yield color and stroke of one line after the other, without end."""
    for stroke, color in cycle(product(strokes, COLORS)):
        yield {"color": color, "linestyle": stroke}


def dress(
    axes: "Axes", title: str, x: str, y: str = "", rules: Literal["both", "x"] = "both"
) -> None:
    """Give axes their title, their labels and faint rules; top and right stay open."""
    axes.set_title(title, fontsize=NORMAL, loc="left", parse_math=False)
    axes.set_xlabel(x, fontsize=SMALL)
    axes.set_ylabel(y, fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=rules, color=RULE, lw=0.6)
    axes.set_axisbelow(True)


def curves(
    lines: Mapping[str, Sequence[tuple[float, float, float, float]]], title: str, x: str, y: str
) -> "Figure":
    """Draw a curve with a band for each name: (x, mean, lower end, upper end) of its points."""
    figure = canvas(*BAND, layout="constrained")
    axes = figure.subplots()
    for (name, points), look in zip(lines.items(), looks(), strict=False):
        places, mean, low, high = zip(*points, strict=True)
        axes.plot(places, mean, marker="o", ms=3, lw=1.4, label=name, **look)
        axes.fill_between(places, low, high, color=look["color"], alpha=0.15, lw=0)
    dress(axes, title, x, y)
    axes.set_xticks(sorted({point[0] for points in lines.values() for point in points}))
    axes.set_ylim(bottom=0)
    legend = figure.legend(loc="outside right center", fontsize=SMALL, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure
