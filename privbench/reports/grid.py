"""Reconstruction grids: rows are images, columns what was private, fed and found."""

import hashlib
import io
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from privbench.records.case import Record, Scores
from privbench.records.picture import Pixels, read
from privbench.records.store import Store, write

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

MOST_ROWS = 8
WIDEST = 6  # victims beside each other
LONGEST_NAME = 150
TILE, GAP, CAPTION, MARGIN, NARROWEST = 1.2, 0.08, 0.36, 0.12, 4.5  # inches
LEADING = 1.4 / 72  # inches between lines per point of font size
SMALL, NORMAL, LARGE = 7.0, 8.0, 9.0  # points
GREY = "#6b6b6b"
FED = "fed in"


@dataclass
class Panel:
    """One column: what it shows, of which victim, and a tile and caption per image."""

    heading: str
    victim: str
    tiles: dict[int, Pixels | None] = field(default_factory=dict)
    captions: dict[int, str] = field(default_factory=dict)


def save(records: Iterable[Record], store: Store, *, joined: bool = False) -> list[str]:
    """Draw one PNG per victim under grids/, or one for all of them; return the paths.

    What was attacked under another data set, threat model or seed never shares a picture.
    """
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[_name(record, joined)].append(record)
    paths = []
    for name, group in groups.items():
        stem = "side-by-side" if joined and len(groups) == 1 else name
        path = store.folder / "grids" / f"{stem}.png"
        write(path, draw(_panels(group, store), _title(group)))
        paths.append(str(path))
    return paths


def _name(record: Record, joined: bool) -> str:
    """Return a file name that no label can turn into a path, nor make too long for a disk."""
    case = record.case
    parts = ["side-by-side"] if joined else [case.model.label, case.weights, case.defended]
    parts.append(case.dataset.label)
    if case.known != "knows nothing, batch 1":
        parts.append(case.known)
    if case.seed:
        parts.append(f"seed {case.seed}")
    name = "-".join(re.sub(r"[^A-Za-z0-9_.=+-]+", "_", part).strip("_.") for part in parts)
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _title(group: Sequence[Record]) -> str:
    images = {image for record in group for image in record.case.images}
    case = group[0].case
    shown = f", first {MOST_ROWS} of {len(images)} images" if len(images) > MOST_ROWS else ""
    return f"{case.dataset.label}, {case.known}, seed {case.seed}{shown}"


def _panels(group: Sequence[Record], store: Store) -> list[Panel]:
    """Columns from left to right: the private picture, then victim by victim."""
    images = sorted({image for record in group for image in record.case.images})[:MOST_ROWS]
    original = Panel("original", "")
    columns: dict[str, dict[str, Panel]] = {}
    for record in group:
        case = record.case
        victim = f"{case.model.label}\n{case.weights} weights, defense {case.defended}"
        mine = columns.setdefault(victim, {"": Panel(FED, victim)})
        panel = mine.setdefault(case.attack.label, Panel(case.attack.label, victim))
        strips = _strips(store.path(case, ".png")) if record.status == "done" else None
        for place, image in enumerate(case.images):
            if image not in images:
                continue
            if strips is None:
                panel.tiles[image] = None
                panel.captions[image] = "no picture" if record.status == "done" else record.status
                continue
            original.tiles[image], mine[""].tiles[image], panel.tiles[image] = (
                row[place] for row in strips
            )
            original.captions[image] = f"no. {image}"
            panel.captions[image] = _caption(record.scores, place)
    return [original, *(panel for victim in columns.values() for panel in victim.values())]


def _strips(path: Path) -> list[list[Pixels]] | None:
    """Return the rows of a case's picture; None where it is lost or torn."""
    try:
        return read(path)
    except (OSError, SyntaxError, ValueError):
        return None


def _caption(scores: Scores, place: int) -> str:
    found = (("", scores.get("psnr")), ("fed ", scores.get("psnr_fed")))
    values = [(which, row[place]) for which, row in found if row is not None]
    return "\n".join(f"{which}{value:.1f} dB" for which, value in values if value is not None)


def draw(panels: Sequence[Panel], title: str) -> bytes:
    """Render panels as a PNG; many victims take a line for each model."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # a letter that the font lacks, as in a folder's name, is drawn as a box
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        lines = [_telling(line) for line in _lines(panels)]
        if len(lines) == 1:
            figure(lines[0], title).savefig(buffer, format="png", metadata={"Software": None})
        else:
            _stacked([figure(line, title) for line in lines]).save(buffer, format="png")
    return buffer.getvalue()


def _lines(panels: Sequence[Panel]) -> list[list[Panel]]:
    victims = dict.fromkeys(panel.victim for panel in panels if panel.victim)
    if len(victims) <= WIDEST:
        return [list(panels)]
    lines: list[list[str]] = []
    ordered = sorted(
        victims, key=lambda victim: (_model(victim), not victim.endswith(" none"), victim)
    )
    for _, same in groupby(ordered, key=_model):
        of_model = list(same)
        lines += [of_model[at : at + WIDEST] for at in range(0, len(of_model), WIDEST)]
    shared = [panel for panel in panels if not panel.victim]
    return [
        [*shared, *(panel for victim in line for panel in panels if panel.victim == victim)]
        for line in lines
    ]


def _telling(line: Sequence[Panel]) -> list[Panel]:
    """Leave out what was fed in where the columns before show the same: most defenses move none."""
    kept: list[Panel] = []
    for panel in line:
        same = (
            before
            for before in kept
            if not before.victim
            or (before.heading == FED and _model(before.victim) == _model(panel.victim))
        )
        if panel.heading != FED or not any(_equal(panel, before) for before in same):
            kept.append(panel)
    return kept


def _equal(one: Panel, other: Panel) -> bool:
    """Whether one column shows nothing that the other does not."""
    pairs = ((tile, other.tiles.get(image)) for image, tile in one.tiles.items())
    return all(a is None or (b is not None and np.array_equal(a, b)) for a, b in pairs)


def _model(victim: str) -> str:
    return victim.partition("\n")[0]


def _stacked(figures: Sequence["Figure"]) -> "Image.Image":
    """Put figures below each other."""
    from PIL import Image

    drawn = []
    for one in figures:
        one.savefig(part := io.BytesIO(), format="png")
        drawn.append(Image.open(part).convert("RGB"))
    whole = Image.new(
        "RGB", (max(d.width for d in drawn), sum(d.height for d in drawn)), (255, 255, 255)
    )
    top = 0
    for image in drawn:
        whole.paste(image, (0, top))
        top += image.height
    return whole


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

    def tile(self, x: float, y: float, pixels: Pixels | None) -> None:
        """Draw one picture, or an empty frame."""
        bottom = 1 - (y + TILE) / self.height
        axes = self.figure.add_axes(
            (x / self.width, bottom, TILE / self.width, TILE / self.height), xticks=[], yticks=[]
        )
        axes.spines[:].set_color("#d0d0d0")
        if pixels is not None:
            axes.imshow(pixels, interpolation="nearest")


def figure(panels: Sequence[Panel], title: str) -> "Figure":
    """Lay panels out; every text is wrapped to its own room, so none is clipped."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lefts = [MARGIN]
    for left, right in pairwise(panels):
        lefts.append(lefts[-1] + TILE + (GAP if left.victim == right.victim else 4 * GAP))
    width = max(lefts[-1] + TILE + MARGIN, NARROWEST)
    title = _wrap(title, width - 2 * MARGIN, NORMAL)
    spans = _spans(panels, lefts)
    headings = [_wrap(panel.heading, TILE, NORMAL) for panel in panels]
    images = sorted({image for panel in panels for image in panel.tiles})
    rule = MARGIN + _room(title, NORMAL) + max((s.room for s in spans), default=0.0) + 2 * GAP
    top = rule + max(_room(heading, NORMAL) for heading in headings) + 2 * GAP
    height = top + len(images) * (TILE + CAPTION) + MARGIN
    sheet = _Sheet(Figure((width, height), dpi=160, facecolor="white"), width, height)
    FigureCanvasAgg(sheet.figure)
    sheet.text(MARGIN, MARGIN, title, NORMAL, color=GREY)
    for span in spans:
        span.draw(sheet, MARGIN + _room(title, NORMAL) + GAP, rule)
    for left, panel, heading in zip(lefts, panels, headings, strict=True):
        sheet.text(left + TILE / 2, top - GAP, heading, NORMAL, ha="center", va="bottom")
        for row, image in enumerate(images):
            y = top + row * (TILE + CAPTION)
            sheet.tile(left, y, panel.tiles.get(image))
            caption = panel.captions.get(image, "")
            sheet.text(left + TILE / 2, y + TILE + 0.05, caption, SMALL, ha="center", color=GREY)
    return sheet.figure


@dataclass
class _Span:
    """The columns of one victim, and what stands above them."""

    start: float
    end: float
    name: str
    detail: str

    @property
    def room(self) -> float:
        """Height of both texts."""
        return _room(self.name, LARGE) + _room(self.detail, SMALL)

    def draw(self, sheet: _Sheet, y: float, rule: float) -> None:
        """Write name and detail from y on, and a line below."""
        from matplotlib.lines import Line2D

        sheet.text(self.start, y, self.name, LARGE, fontweight="bold")
        sheet.text(self.start, y + _room(self.name, LARGE), self.detail, SMALL, color=GREY)
        ends, line = [self.start / sheet.width, self.end / sheet.width], 1 - rule / sheet.height
        sheet.figure.add_artist(Line2D(ends, [line, line], color="#b0b0b0", lw=0.8))


def _spans(panels: Sequence[Panel], lefts: Sequence[float]) -> list[_Span]:
    places: dict[str, list[float]] = defaultdict(list)
    for panel, left in zip(panels, lefts, strict=True):
        if panel.victim:
            places[panel.victim].append(left)
    spans = []
    for victim, found in places.items():
        start, end = found[0], found[-1] + TILE
        name, _, detail = victim.partition("\n")
        wrapped = _wrap(name, end - start, LARGE, "bold"), _wrap(detail, end - start, SMALL)
        spans.append(_Span(start, end, *wrapped))
    return spans


def _room(text: str, size: float) -> float:
    """Height in inches of a text of several lines."""
    return (text.count("\n") + 1) * size * LEADING


def _wrap(text: str, width: float, size: float, weight: str = "normal") -> str:
    """Break a text into lines of at most so many inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight=weight)

    def fits(line: str) -> bool:
        points, _, _ = text_to_path.get_text_width_height_descent(line.strip(), font, ismath=False)
        return points / 72 <= 0.96 * width  # hinting on the canvas may widen a line a little

    lines = [""]
    for piece in _pieces(text, fits):
        if lines[-1] and not fits(lines[-1] + piece):
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.strip() for line in lines)


def _pieces(text: str, fits: Callable[[str], bool]) -> Iterator[str]:
    """Words, a label's name and its settings; smaller pieces only where a word is too long."""
    for word in re.split(r"(?<= )|(?=\()", text):
        for part in [word] if fits(word) else re.split(r"(?<=[-_=+.,/@])", word):
            yield from [part] if fits(part) else part
