"""Which columns and rows of a grid go to which sheet, so that each fits a screen."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import ceil

from privbench.records.picture import Pixels
from privbench.reports.lettering import room, wrap

WIDEST, HIGHEST = 10.0, 6.25
"""Inches of a sheet: 1,600 x 1,000 pixels. Only a label that needs more room may exceed them."""
GAP, MARGIN = 0.08, 0.12
APART, ASUNDER, FAR = 2 * GAP, 4 * GAP, 8 * GAP
"""Inches between defenses of a victim, between victims, and between blocks."""
SMALL, NORMAL, LARGE = 7.0, 8.0, 9.0
"""Letters in points."""


@dataclass
class Panel:
    """One column: what it shows, and a tile and caption per image.

    Columns without a victim stand at the left of every block.
    """

    heading: str
    victim: str = ""
    """Label, and weights in a second line."""
    defense: str = ""
    tiles: dict[int, Pixels | None] = field(default_factory=dict)
    captions: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Block:
    """Some columns of some pictures."""

    panels: Sequence[Panel]
    images: Sequence[int]
    side: float

    def lefts(self) -> list[float]:
        """Return where the columns begin, in inches from the block's left."""
        lefts, x = [], 0.0
        for number, panel in enumerate(self.panels):
            if number:
                before = self.panels[number - 1]
                same = before.victim == panel.victim
                x += self.side
                x += (GAP if before.defense == panel.defense else APART) if same else ASUNDER
            lefts.append(x)
        return lefts

    @property
    def width(self) -> float:
        """Inches from the left of the first column to the right of the last."""
        return self.lefts()[-1] + self.side

    def spans(self) -> list["Span"]:
        """Return the names above the columns, victims and then their defenses."""
        places = list(zip(self.panels, self.lefts(), strict=True))
        found = []
        for victim, columns in groupby(places, key=lambda place: place[0].victim):
            if not victim:
                continue
            mine = list(columns)
            name, _, weights = victim.partition("\n")
            defenses = [
                (defense, [left for _, left in some])
                for defense, some in groupby(mine, key=lambda place: place[0].defense)
            ]
            start, width = mine[0][1], mine[-1][1] + self.side - mine[0][1]
            details = [weights]
            if len(defenses) == 1:
                details, defenses = [weights, defenses[0][0]], []
            below = tuple(
                Span(some[0], w := some[-1] + self.side - some[0], "", wrap(text, w, SMALL))
                for text, some in defenses
            )
            detail = wrap(", ".join(filter(None, details)), width, SMALL)
            if "\n" in detail:  # rather a line for each
                detail = "\n".join(wrap(one, width, SMALL) for one in details if one)
            found.append(Span(start, width, wrap(name, width, LARGE, "bold"), detail, below))
        return found

    def headings(self) -> list[str]:
        """Return what stands right above each column."""
        return [wrap(panel.heading, self.side, NORMAL) for panel in self.panels]

    @property
    def head(self) -> tuple[float, float, float]:
        """Inches that victims, their defenses, and headings need."""
        spans = self.spans()
        return (
            max((span.room for span in spans), default=0.0) + GAP,
            max((one.room + 1.5 * GAP for s in spans for one in s.below), default=0.0),
            max(room(heading, NORMAL) for heading in self.headings()) + 1.5 * GAP,
        )

    @property
    def caption(self) -> float:
        """Inches that the highest caption needs, and what parts it from the next picture."""
        texts = [text for panel in self.panels for text in panel.captions.values()]
        return max((room(text, SMALL) for text in texts), default=0.0) + 1.5 * GAP


@dataclass(frozen=True)
class Span:
    """Columns with a name in common, and what stands above them."""

    start: float
    width: float
    name: str
    detail: str
    below: tuple["Span", ...] = ()

    @property
    def room(self) -> float:
        """Height of both texts."""
        return room(self.name, LARGE) + room(self.detail, SMALL)


@dataclass(frozen=True)
class Plan:
    """Which columns and rows go to which sheet, for one size of the pictures."""

    side: float
    panels: tuple[Panel, ...]
    title: str

    def pages(self) -> list[list[Block]]:
        """Return the blocks of each sheet; a narrow one leaves room for its other rows."""
        images = list(dict.fromkeys(image for panel in self.panels for image in panel.tiles))
        return [page for columns in self._columns() for page in self._rows(columns, images)]

    def _rows(self, columns: list[Panel], images: Sequence[int]) -> Iterator[list[Block]]:
        whole = Block(columns, images, self.side)
        titled = room(wrap(self.title, WIDEST - 2 * MARGIN, NORMAL), NORMAL) + GAP
        free = HIGHEST - 2 * MARGIN - titled - sum(whole.head)
        most = max(1, int(free / (self.side + whole.caption)))
        count = max(1, ceil(len(images) / most))
        each = max(1, ceil(len(images) / count))
        blocks = [
            replace(whole, images=images[at : at + each]) for at in range(0, len(images), each)
        ] or [whole]
        abreast = max(1, int((WIDEST - 2 * MARGIN + FAR) / (whole.width + FAR)))
        for at in range(0, len(blocks), abreast):
            yield blocks[at : at + abreast]

    def _columns(self) -> Iterator[list[Panel]]:
        """Fill one block after the other; a victim is split only where it is too wide itself."""
        shared = [panel for panel in self.panels if not panel.victim]
        block = list(shared)
        for _, victim in groupby(self._ordered(), key=lambda panel: panel.victim):
            for part in self._parts(shared, list(victim)):
                if len(block) > len(shared) and not self._fits([*block, *part]):
                    yield block
                    block = list(shared)
                block += part
        yield block

    def _ordered(self) -> list[Panel]:
        """Return the columns of victims, one victim after the other as they first occur."""
        victims = dict.fromkeys(panel.victim for panel in self.panels if panel.victim)
        return [panel for victim in victims for panel in self.panels if panel.victim == victim]

    def _parts(self, shared: list[Panel], victim: list[Panel]) -> Iterator[list[Panel]]:
        """Yield a victim whole, else its defenses, else what fits of one."""
        if self._fits([*shared, *victim]):
            yield victim
            return
        for _, same in groupby(victim, key=lambda panel: panel.defense):
            part: list[Panel] = []
            for panel in same:
                if part and not self._fits([*shared, *part, panel]):
                    yield part
                    part = []
                part.append(panel)
            yield part

    def _fits(self, columns: list[Panel]) -> bool:
        return Block(columns, (), self.side).width <= WIDEST - 2 * MARGIN
