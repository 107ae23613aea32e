"""Reconstruction grids: rows are images, columns what was private, fed and found."""

import io
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise

from privbench.case import Record
from privbench.store import Store, write
from privbench.strip import Pixels, read

MOST_ROWS = 8
TILE, GAP, CAPTION, HEADING, MARGIN = 1.2, 0.08, 0.36, 1.24, 0.12  # inches
GREY = "#6b6b6b"


@dataclass
class Panel:
    """One column: what it shows, of which victim, and a tile and caption per image."""

    heading: str
    victim: str
    tiles: dict[int, Pixels | None] = field(default_factory=dict)
    captions: dict[int, str] = field(default_factory=dict)


def save(records: Iterable[Record], store: Store, *, joined: bool = False) -> list[str]:
    """Draw one PNG per victim under grids/, or one for all of them; return the paths."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[_name(record)].append(record)
    paths = []
    for name, group in (
        {"-".join(groups): list(chain(*groups.values()))} if joined else groups
    ).items():
        if panels := _panels(group, store):
            path = store.folder / "grids" / f"{name if not joined else 'side-by-side'}.png"
            write(path, draw(panels, _title(group)))
            paths.append(str(path))
    return paths


def _name(record: Record) -> str:
    """Return a file name that no label can turn into a path."""
    case = record.case
    parts = [case.model.label, case.weights, case.defended, case.dataset.label]
    if case.known != "knows nothing, batch 1":
        parts.append(case.known)
    if case.seed:
        parts.append(f"seed {case.seed}")
    return "-".join(re.sub(r"[^A-Za-z0-9_.=+]+", "_", part).strip("_.") for part in parts)


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
        mine = columns.setdefault(victim, {"": Panel("fed in", victim)})
        panel = mine.setdefault(case.attack.label, Panel(case.attack.label, victim))
        path = store.path(case, ".png")
        strips = read(path) if record.status == "done" and path.is_file() else None
        for place, image in enumerate(case.images):
            if image not in images:
                continue
            if strips is None:
                panel.tiles[image], panel.captions[image] = None, record.status
                continue
            original.tiles[image], mine[""].tiles[image], panel.tiles[image] = (
                row[place] for row in strips
            )
            original.captions[image] = f"no. {image}"
            panel.captions[image] = _caption(record.scores, place)
    return [original, *(panel for victim in columns.values() for panel in victim.values())]


def _caption(scores: Mapping[str, list[float]], place: int) -> str:
    lines = [f"{scores['psnr'][place]:.1f} dB"]
    if "psnr_fed" in scores:
        lines.append(f"fed {scores['psnr_fed'][place]:.1f} dB")
    return "\n".join(lines)


def draw(panels: Sequence[Panel], title: str) -> bytes:
    """Render panels as a PNG; every text has its own room, so none is clipped."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    images = sorted({image for panel in panels for image in panel.tiles})
    breaks = [0.0]
    for left, right in pairwise(panels):
        breaks.append(breaks[-1] + TILE + (GAP if left.victim == right.victim else 4 * GAP))
    width = max(breaks[-1] + TILE + 2 * MARGIN, 4.5)
    top = HEADING
    height = top + len(images) * (TILE + CAPTION) + MARGIN
    figure = Figure(figsize=(width, height), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(MARGIN / width, 1 - 0.1 / height, title, va="top", fontsize=8, color=GREY)
    for column, panel in enumerate(panels):
        left = MARGIN + breaks[column]
        middle = (left + TILE / 2) / width
        figure.text(
            middle,
            1 - (top - 0.06) / height,
            _wrap(panel.heading),
            ha="center",
            va="bottom",
            fontsize=8,
        )
        for row, image in enumerate(images):
            bottom = height - top - row * (TILE + CAPTION) - TILE
            axes = figure.add_axes((left / width, bottom / height, TILE / width, TILE / height))
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_color("#d0d0d0")
            if (tile := panel.tiles.get(image)) is not None:
                axes.imshow(tile, interpolation="nearest")
            caption = panel.captions.get(image, "")
            figure.text(
                middle,
                (bottom - 0.05) / height,
                caption,
                ha="center",
                va="top",
                fontsize=7.5,
                color=GREY,
            )
    for victim in dict.fromkeys(panel.victim for panel in panels if panel.victim):
        columns = [i for i, panel in enumerate(panels) if panel.victim == victim]
        start, end = MARGIN + breaks[columns[0]], MARGIN + breaks[columns[-1]] + TILE
        name, _, detail = victim.partition("\n")
        y = 1 - 0.34 / height
        figure.text(start / width, y, name, va="top", fontsize=9, fontweight="bold")
        figure.text(start / width, y - 0.17 / height, detail, va="top", fontsize=7, color=GREY)
        line = 1 - (0.34 + 0.36) / height
        figure.add_artist(
            Line2D([start / width, end / width], [line, line], color="#b0b0b0", lw=0.8)
        )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _wrap(heading: str) -> str:
    """Break a long label before its settings."""
    return "\n".join(textwrap.wrap(heading.replace("(", " ("), 17)[:3])
