"""Reconstruction grids: rows are images, columns the original, the network input, answers."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from privbench.records.case import UNDEFENDED, Record, Scores
from privbench.records.picture import Pixels, read
from privbench.records.store import Store, write
from privbench.reports.axes import png
from privbench.reports.compared import Comparison, comparisons
from privbench.reports.leaderboard import distinct
from privbench.reports.paging import Panel
from privbench.reports.picked import MOST_ROWS, picked
from privbench.reports.sheets import sheets

LONGEST_NAME = 150
"""Letters of a file name; disks allow 255 bytes."""
INPUT = "network input"

Groups = dict[str, list[Record]]


def save(
    records: Iterable[Record], store: Store, *, joined: bool = False, pick: Sequence[str] = ()
) -> list[str]:
    """Draw one grid per victim under grids/, or one for all of them; return the sheets' paths.

    What was attacked under another data set, threat model or seed never shares a grid. A grid that
    a screen cannot show goes on several sheets, NAME-1.png and on.
    """
    groups = _groups(records, joined)
    paths = []
    for name, group in groups.items():
        stem = "side-by-side" if joined and len(groups) == 1 else name
        drawn = draw(_panels(group, store, pick), _title(group, pick))
        paths += _write(store.folder / "grids", stem, drawn)
    return paths


def save_by(
    records: Iterable[Record], store: Store, axis: str, pick: Sequence[str] = ()
) -> list[str]:
    """Draw a grid for each comparison by an axis, whose columns are its values; return the paths.

    Raises UnknownName for what no record has, and BadSetting where nothing varies.
    """
    paths = []
    for one in comparisons(records, axis):
        everything = [record for group in one.columns.values() for record in group]
        words = [text for name, text in one.shared.items() if name in ("dataset", "threat", "seed")]
        title = ", ".join([*words, *_counted(everything, pick)])
        stem = _file_name(["by", axis, *one.shared.values()])
        drawn = draw(_columns(one, store, picked(one.columns.values(), pick)), title)
        paths += _write(store.folder / "grids", stem, drawn)
    return paths


def save_all(records: Sequence[Record], store: Store) -> list[str]:
    """Draw one grid per victim, and where there are several one of all; return the paths."""
    paths = save(records, store)
    return paths + (save(records, store, joined=True) if len(_groups(records, False)) > 1 else [])


def draw(panels: Sequence[Panel], title: str) -> list[bytes]:
    """Render panels as PNGs, one for each sheet."""
    return [png(sheet) for sheet in sheets(_telling(panels), title)]


def _groups(records: Iterable[Record], joined: bool) -> Groups:
    groups: Groups = defaultdict(list)
    for record in distinct(records):
        groups[_name(record, joined)].append(record)
    return groups


def _write(folder: Path, stem: str, drawn: Sequence[bytes]) -> list[str]:
    """Write the sheets of a grid, and take away those that it had more of before."""
    several = len(drawn) > 1
    paths = [
        folder / (f"{stem}-{number}.png" if several else f"{stem}.png")
        for number in range(1, len(drawn) + 1)
    ]
    for path, content in zip(paths, drawn, strict=True):
        write(path, content)
    older = re.compile(rf"{re.escape(stem)}(-\d{{1,4}})?\.png")
    for path in folder.iterdir():
        if older.fullmatch(path.name) and path not in paths:
            path.unlink()
    return [str(path) for path in paths]


def _name(record: Record, joined: bool) -> str:
    """Return a file name that no label can turn into a path, nor make too long for a disk."""
    case = record.case
    parts = ["side-by-side"] if joined else [case.model.label, case.weights, case.defended]
    parts.append(case.dataset.label)
    if case.known != "knows nothing, batch 1":
        parts.append(case.known)
    if case.seed:
        parts.append(f"seed {case.seed}")
    return _file_name(parts)


def _file_name(parts: Iterable[str]) -> str:
    name = "-".join(re.sub(r"[^A-Za-z0-9_.=+-]+", "_", part).strip("_.") for part in parts)
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _title(group: Sequence[Record], pick: Sequence[str] = ()) -> str:
    case = group[0].case
    words = [case.dataset.label, case.known, f"seed {case.seed}", *_counted(group, pick)]
    return ", ".join(words)


def _counted(group: Sequence[Record], pick: Sequence[str]) -> list[str]:
    """Say which pictures are shown, where not all are."""
    count = len({image for record in group for image in record.case.images})
    if pick:
        names = " and ".join(filter(None, (", ".join(pick[:-1]), pick[-1])))
        return [f"{names} of {count} images by mean PSNR (worst leaks most)"]
    return [f"first {MOST_ROWS} of {count} images"] if count > MOST_ROWS else []


def _panels(group: Sequence[Record], store: Store, pick: Sequence[str] = ()) -> list[Panel]:
    """Columns from left to right: the original, then victim by victim, defenses last."""
    answers: dict[str, list[Record]] = defaultdict(list)
    for record in group:
        case = record.case
        answers[f"{case.model.label} {case.defended} {case.attack.label}"].append(record)
    images = picked(answers.values(), pick)
    original = Panel("original", tiles=dict.fromkeys(images))
    columns: dict[tuple[str, bool, str], dict[str, Panel]] = {}
    for record in group:
        case = record.case
        who = f"{case.model.label}\n{case.weights} weights", f"defense {case.defended}"
        place = (who[0], case.defended != UNDEFENDED, who[1])
        mine = columns.setdefault(place, {"": Panel(INPUT, *who)})
        panel = mine.setdefault(case.attack.label, Panel(case.attack.label, *who))
        _fill((original, mine[""], panel), record, store, images)
    models = list(dict.fromkeys(model for model, _, _ in columns))
    ordered = sorted(columns, key=lambda place: (models.index(place[0]), *place[1:]))
    return [original, *(panel for place in ordered for panel in columns[place].values())]


def _columns(one: Comparison, store: Store, images: Mapping[int, str]) -> list[Panel]:
    """Columns from left to right: the original, then one for each value of the axis."""
    original = Panel("original", tiles=dict.fromkeys(images))
    shared = dict(one.shared)
    who = shared.pop("model", "") or shared.pop("attack", "")
    words = [shared.get("weights", ""), shared.get("attack", "")]
    words += [f"defense {shared['defense']}"] if "defense" in shared else []
    victim = f"{who}\n{', '.join(filter(None, words))}"
    panels = [original]
    inputs: dict[str, Panel] = {}
    for value, records in one.columns.items():
        fed, answer = Panel(INPUT, victim), Panel(value, victim)
        for record in records:
            _fill((original, fed, answer), record, store, images)
        same = [name for name, known in inputs.items() if _equal(fed, known)]
        if same:  # one column for all that were fed alike
            known = inputs.pop(same[0])
            inputs[f"{same[0]}, {value}"] = known
        elif not _equal(fed, original):
            inputs[value] = fed
            panels.append(fed)
        panels.append(answer)
    for names, fed in inputs.items():
        fed.heading = INPUT if names == ", ".join(one.columns) else f"input of {names}"
    return panels


def _fill(
    panels: tuple[Panel, Panel, Panel], record: Record, store: Store, images: Mapping[int, str]
) -> None:
    """Put a record's original, network input and answer into their columns."""
    original, fed, answer = panels
    case = record.case
    strips = _strips(store.path(case, ".png")) if record.status == "done" else None
    for place, image in enumerate(case.images):
        if image not in images:
            continue
        if strips is None:
            answer.tiles[image] = None
            answer.captions[image] = "no picture" if record.status == "done" else record.status
            continue
        original.tiles[image], fed.tiles[image], answer.tiles[image] = (
            row[place] for row in strips
        )
        original.captions[image] = f"no. {image}" + f"\n{images[image]}" * bool(images[image])
        answer.captions[image] = _caption(record.scores, place)


def _strips(path: Path) -> list[list[Pixels]] | None:
    """Return the rows of a case's picture; None where it is lost or torn."""
    try:
        return read(path)
    except (OSError, SyntaxError, ValueError):
        return None


def _caption(scores: Scores, place: int) -> str:
    found = (("", scores.get("psnr")), ("input ", scores.get("psnr_fed")))
    values = [(which, row[place]) for which, row in found if row is not None]
    return "\n".join(f"{which}{value:.1f} dB" for which, value in values if value is not None)


def _telling(panels: Sequence[Panel]) -> list[Panel]:
    """Leave out network inputs that columns before show: most defenses change none."""
    kept: list[Panel] = []
    for panel in panels:
        same = (
            before
            for before in kept
            if not before.victim or (before.heading == INPUT and before.victim == panel.victim)
        )
        if panel.heading != INPUT or not any(_equal(panel, before) for before in same):
            kept.append(panel)
    return kept


def _equal(one: Panel, other: Panel) -> bool:
    """Whether one column shows nothing that the other does not."""
    pairs = ((tile, other.tiles.get(image)) for image, tile in one.tiles.items())
    return all(a is None or (b is not None and np.array_equal(a, b)) for a, b in pairs)
