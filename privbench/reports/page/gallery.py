"""Reconstructions as small pictures that stand inside the page."""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from privbench.records.case import UNDEFENDED, Record
from privbench.records.picture import Pixels, read
from privbench.records.store import Store
from privbench.reports.board import LEAK, Section
from privbench.reports.pictures import per_picture

LARGEST = 96
"""Pixels of a side; larger pictures are made smaller."""
MOST_VICTIMS = 12
MOST_ATTACKS = 4
FROM_FOLDER = "@"
"""In the name of a data set whose pictures do not come along."""
CHOSEN = ("most", "median", "least")


@dataclass(frozen=True)
class Tile:
    """One picture, or none where it is lost."""

    text: str
    """What a screen reader says."""
    caption: str
    uri: str = ""


@dataclass(frozen=True)
class Strip:
    """One picture's row: the original, the network input where it differs, and answers."""

    heading: str
    tiles: Sequence[Tile]


@dataclass
class Exhibit:
    """A victim's strips; the attacks are the strongest first."""

    victim: str
    columns: list[str]
    strips: list[Strip] = field(default_factory=list)


def gallery(section: Section, store: Store, *, everything: bool = False) -> list[Exhibit]:
    """Return the exhibits of a section's victims, three pictures each.

    Pictures of a user's own folder are left out unless `everything` is asked for: the page may
    travel further than they should.
    """
    victims: dict[tuple[str, str], list[tuple[str, Sequence[Record]]]] = {}
    for row, group in zip(section.rows, section.records, strict=True):
        mine = FROM_FOLDER not in group[0].case.dataset.label
        if LEAK in row and (mine or everything):
            attacks = victims.setdefault((row["model"], row["defense"]), [])
            attacks.append((row["attack"], group))
    found = []
    for (model, defense), attacks in list(victims.items())[:MOST_VICTIMS]:
        attacks.sort(key=lambda pair: -_mean(per_picture(pair[1], LEAK).values()))
        name = model if defense == UNDEFENDED else f"{model} + {defense}"
        if exhibit := _exhibit(name, attacks[:MOST_ATTACKS], store):
            found.append(exhibit)
    return found


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)


def _exhibit(
    victim: str, attacks: Sequence[tuple[str, Sequence[Record]]], store: Store
) -> Exhibit | None:
    """Return three pictures by what the strongest attack leaks of them."""
    leaks = per_picture(attacks[0][1], LEAK)
    shared = set(leaks).intersection(*(per_picture(group, LEAK) for _, group in attacks))
    leaks = {key: leaks[key] for key in shared or leaks}
    order = sorted(leaks, key=lambda key: (-leaks[key], key))
    places = dict.fromkeys((0, len(order) // 2, len(order) - 1))
    names = CHOSEN if len(places) == len(CHOSEN) else ("most", "least")
    rows = []
    fed = False
    for name, place in zip(names, places, strict=False):
        digest, index = order[place]
        records = [_record(group, digest) for _, group in attacks]
        strips = [_strips(store, record) for record in records]
        shown = next((strip for strip in strips if strip is not None), None)
        if shown is None or records[0] is None:
            continue
        number = records[0].case.images[index]
        original, sent = shown[0][index], shown[1][index]
        fed = fed or not np.array_equal(original, sent)
        rows.append((name, number, index, original, sent, records, strips))
    if not rows:
        return None
    columns = ["original", *(["network input"] if fed else []), *(name for name, _ in attacks)]
    exhibit = Exhibit(victim, columns)
    for name, number, index, original, sent, records, strips in rows:
        tiles = [Tile(f"picture {number}, original", f"no. {number}", _uri(original))]
        if fed:
            tiles.append(Tile(f"picture {number}, as {victim} was fed it", "", _uri(sent)))
        for (attack, _), record, strip in zip(attacks, records, strips, strict=True):
            tiles.append(_answer(attack, victim, record, strip, index))
        exhibit.strips.append(Strip(name, tiles))
    return exhibit


def _answer(
    attack: str,
    victim: str,
    record: Record | None,
    strip: list[list[Pixels]] | None,
    index: int,
) -> Tile:
    if record is None:
        return Tile("not attacked", "not attacked")
    value = record.scores[LEAK][index]
    leak = f"{value:.1f} dB" if value is not None else ""
    said = f"picture {record.case.images[index]} as {attack} rebuilt it from {victim}, {leak}"
    return Tile(said, leak, _uri(strip[2][index])) if strip else Tile(f"{said}, lost", leak)


def _record(group: Sequence[Record], digest: str) -> Record | None:
    found = (r for r in group if r.status == "done" and r.case.images_sha256 == digest)
    return next(found, None)


def _strips(store: Store, record: Record | None) -> list[list[Pixels]] | None:
    """Return original, network input and answer; None where the picture is lost or torn."""
    if record is None:
        return None
    path: Path = store.path(record.case, ".png")
    try:
        strips = read(path)
    except (OSError, SyntaxError, ValueError):
        return None
    return strips if all(len(row) == len(record.case.images) for row in strips) else None


def _uri(pixels: Pixels) -> str:
    picture = Image.fromarray(pixels)
    if max(picture.size) > LARGEST:
        picture.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
