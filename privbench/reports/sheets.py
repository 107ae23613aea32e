"""Pictures laid out on sheets that fit a screen: rows are pictures, columns what is compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from privbench.records.picture import Pixels
from privbench.reports.axes import GREY, canvas
from privbench.reports.lettering import room, wrap
from privbench.reports.paging import FAR, GAP, LARGE, MARGIN, NORMAL, SMALL, Block, Panel, Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDES = (1.2, 1.1, 1.0, 0.9, 0.8, 0.7)
"""Inches of a picture; the largest with which the fewest sheets are needed."""
NARROWEST = 4.5
"""Inches of a sheet, so that its title has room."""
FRAME, LINE, THIN = "#d0d0d0", "#b0b0b0", "#d8d8d8"


def sheets(panels: Sequence[Panel], title: str) -> list["Figure"]:
    """Lay panels out; every text is wrapped to its own room, so none is clipped."""
    plans = [Plan(side, tuple(panels), title) for side in SIDES]
    counts = [len(plan.pages()) for plan in plans]
    plan, count = plans[counts.index(min(counts))], min(counts)
    return [
        _draw(page, plan.side, f"{title}, sheet {number} of {count}" if count > 1 else title)
        for number, page in enumerate(plan.pages(), 1)
    ]


@dataclass
class _Sheet:
    """A figure whose places are inches from the left and from the top."""

    figure: "Figure"
    width: float
    height: float

    def text(self, x: float, y: float, text: str, size: float, **style: str) -> None:
        """Write; nothing in a label is mathematics."""
        style = {"va": "top", "color": "black"} | style
        place = (x / self.width, 1 - y / self.height)
        self.figure.text(*place, text, fontsize=size, parse_math=False, **style)  # type: ignore[arg-type]

    def rule(self, x: float, y: float, width: float, color: str) -> None:
        """Draw a level line."""
        from matplotlib.lines import Line2D

        ends, at = [x / self.width, (x + width) / self.width], 1 - y / self.height
        self.figure.add_artist(Line2D(ends, [at, at], color=color, lw=0.8))

    def tile(self, x: float, y: float, side: float, pixels: Pixels | None) -> None:
        """Draw one picture, or an empty frame."""
        place = (
            x / self.width,
            1 - (y + side) / self.height,
            side / self.width,
            side / self.height,
        )
        axes = self.figure.add_axes(place, xticks=[], yticks=[])
        axes.spines[:].set_color(FRAME)
        if pixels is not None:
            axes.imshow(pixels, interpolation="nearest")


def _draw(page: Sequence[Block], side: float, title: str) -> "Figure":
    """Draw the blocks of a sheet, one right of the other."""
    width = sum(block.width + FAR for block in page) - FAR + 2 * MARGIN
    width = max(width, NARROWEST)
    title = wrap(title, width - 2 * MARGIN, NORMAL)
    first = page[0]
    top = MARGIN + room(title, NORMAL) + GAP
    rows = max(len(block.images) for block in page)
    height = top + sum(first.head) + rows * (side + first.caption) + MARGIN
    sheet = _Sheet(canvas(width, height), width, height)
    sheet.text(MARGIN, MARGIN, title, NORMAL, color=GREY)
    x = MARGIN
    for block in page:
        _write_names(sheet, block, x, top)
        _write_columns(sheet, block, x, top + sum(first.head))
        x += block.width + FAR
    return sheet.figure


def _write_names(sheet: _Sheet, block: Block, x: float, y: float) -> None:
    """Write victims and their defenses, each above a line."""
    victims, defenses, _ = block.head
    for span in block.spans():
        start = x + span.start
        sheet.text(start, y, span.name, LARGE, fontweight="bold")
        sheet.text(start, y + room(span.name, LARGE), span.detail, SMALL, color=GREY)
        sheet.rule(start, y + victims, span.width, LINE)
        for one in span.below:
            sheet.text(x + one.start, y + victims + 0.5 * GAP, one.detail, SMALL, color=GREY)
            sheet.rule(x + one.start, y + victims + defenses, one.width, THIN)


def _write_columns(sheet: _Sheet, block: Block, x: float, y: float) -> None:
    """Write headings, and below each its pictures with their captions."""
    for left, panel, heading in zip(block.lefts(), block.panels, block.headings(), strict=True):
        middle = x + left + block.side / 2
        sheet.text(middle, y - 0.5 * GAP, heading, NORMAL, ha="center", va="bottom")
        for row, image in enumerate(block.images):
            at = y + row * (block.side + block.caption)
            sheet.tile(x + left, at, block.side, panel.tiles.get(image))
            caption = panel.captions.get(image, "")
            below = at + block.side + 0.5 * GAP
            sheet.text(middle, below, caption, SMALL, ha="center", color=GREY)
