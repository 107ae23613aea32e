"""The leaderboard that people quote: leakage, utility and cost in one row, with ranks.

A pure function of records. Rows that were attacked under another protocol (weights, pictures,
threat model, seed) stand in another section, and ranks are of one section.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import pandas as pd

from privbench.errors import BadSetting, UnknownName
from privbench.records.case import UNDEFENDED, Record
from privbench.records.sealed import newest
from privbench.records.utility import UtilityRecord
from privbench.reports.flags import flags
from privbench.reports.joined import figures
from privbench.reports.leaderboard import KEYS, Key, distinct, every_row, refuse_mixed
from privbench.reports.pictures import (
    Pictures,
    best,
    certified,
    metric_facts,
    per_batch,
    per_picture,
)
from privbench.reports.ranks import crowded, paired, ranks
from privbench.reports.stats import holm, mean_intervals
from privbench.reports.unranked import faced, unranked
from privbench.reports.utility_figures import utility_figures
from privbench.reports.versions import versions

LEAK = "psnr"
"""The metric by which rows are ranked, and attacks and defenses compared."""
SECTION = ("weights", "dataset", "threat", "seed", "suite")
POOLED = ("attack", "seed")
"""What `by` may leave out: of attacks the strongest stands for all, of seeds the mean."""
FEWEST = 20
"""Pictures of which the leakiest 5 % is at least one."""

Row = dict[str, Any]
Means = list[tuple[Row, str, list[float]]]
"""Rows, names of their means, and the values that these are of."""


@dataclass(frozen=True)
class Section:
    """Rows of one protocol, the leakiest first."""

    protocol: Mapping[str, Any]
    rows: Sequence[Row]
    records: Sequence[Sequence[Record]]
    """Of each row."""
    crowded: bool = False
    """Whether none has a rank, as there are too many rows."""

    @property
    def title(self) -> str:
        """Return the protocol in words."""
        return ", ".join(f"{key} {value}" for key, value in self.protocol.items())


@dataclass(frozen=True)
class _Line:
    keys: Row
    group: list[Record]
    everyone: list[Record]
    """Records of all attacks that this one stands for."""
    every: list[Record]
    """Records of this one, older versions' among them."""
    unfaced: str | None = None
    """What nobody has run on its defense."""


def board(
    records: Iterable[Record],
    utility: Iterable[UtilityRecord] = (),
    tables: Sequence[pd.DataFrame] = (),
    by: Sequence[str] | None = None,
) -> list[Section]:
    """Return sections, that of the most rows first.

    A row has all of KEYS, but for those of POOLED that `by` leaves out. Tables are of figures that
    other commands derived (`joined`). Raises UnknownName for a name in `by` that is no key,
    BadSetting for one given twice, and BadData where a metric comes in two versions.
    """
    _refuse_names(by or ())
    records = distinct(records)
    groups, ran = every_row(records), faced(records)
    pooled = [key for key in POOLED if by and key not in by]
    measured = utility_figures(utility)
    lines = [
        replace(line, unfaced=unranked(line.group[0].case, ran)) for line in _lines(groups, pooled)
    ]
    refuse_mixed(record for line in lines for record in line.everyone)
    shared = [key for key in SECTION if key not in pooled]

    def protocol(line: _Line) -> tuple[str, ...]:
        return tuple(str(line.keys[key]) for key in shared)

    sections: list[Section] = []
    means: Means = []
    for _, some in groupby(sorted(lines, key=protocol), key=protocol):
        mine = list(some)
        controls = [_control(line, mine) for line in mine]
        rows = [
            _row(line, control, measured, tables, means)
            for line, control in zip(mine, controls, strict=True)
        ]
        named = {key: mine[0].keys[key] for key in shared}
        if not named["suite"]:  # of no version
            del named["suite"]
        sections.append(_ranked(mine, controls, rows, named))
    _add_intervals(means)
    return sorted(sections, key=lambda one: (-len(one.rows), _natural(one.title)))


def _refuse_names(by: Sequence[str]) -> None:
    UnknownName.refuse("column that tells rows apart", by, KEYS)
    if twice := next((name for at, name in enumerate(by) if name in by[:at]), None):
        raise BadSetting(f"The columns that tell rows apart have '{twice}' twice. Name it once.")


def _add_intervals(means: Means) -> None:
    """Add the intervals of all means at once; one value has none."""
    found = mean_intervals([values for _, _, values in means])
    for (row, name, _), (_, low, high) in zip(means, found, strict=True):
        if low == low:
            row |= {f"{name}_lo": low, f"{name}_hi": high}


def _lines(groups: Mapping[Key, list[Record]], pooled: Sequence[str]) -> list[_Line]:
    """Return a line per row of the table, pooled over seeds, of the strongest attack."""
    together: dict[Key, tuple[list[Record], list[Record]]] = {}
    for key, group in groups.items():
        kept = tuple(v for k, v in zip(KEYS, key, strict=True) if not (k == "seed" in pooled))
        counts, every = together.setdefault(kept, ([], []))
        counts += newest(group)
        every += group
    names = [key for key in KEYS if not (key == "seed" in pooled)]
    lines = [
        _Line(dict(zip(names, kept, strict=True)), counts, counts, every)
        for kept, (counts, every) in together.items()
    ]
    if "attack" not in pooled:
        return lines
    victims: dict[Key, list[_Line]] = {}
    for line in lines:
        victims.setdefault(tuple(v for k, v in line.keys.items() if k != "attack"), []).append(line)
    found = []
    for some in victims.values():
        strongest = _strongest(some)
        everyone = [record for line in some for record in line.group]
        found.append(replace(strongest, everyone=everyone))
    return found


def _strongest(lines: Sequence[_Line]) -> _Line:
    """Return the strongest attack: the next takes the best's place if it beats it on common ones.

    It goes from the most pictures to the fewest, so that nobody wins by two easy pictures; where
    two have none in common, the means of what each has count.
    """
    scored = [(line, per_picture(line.group, LEAK)) for line in lines]
    (best, theirs), *others = sorted(scored, key=lambda one: -len(one[1]))
    for line, pictures in others:
        common = pictures.keys() & theirs.keys()
        mine, other = (
            {key: of[key] for key in common} if common else of for of in (pictures, theirs)
        )
        if _mean(mine) > _mean(other):
            best, theirs = line, pictures
    return best


def _mean(pictures: Pictures) -> float:
    return sum(pictures.values()) / len(pictures) if pictures else float("-inf")


def _row(
    line: _Line,
    control: _Line | None,
    measured: Mapping[tuple[str, str, str], Mapping[str, float]],
    tables: Sequence[pd.DataFrame],
    means: Means,
) -> Row:
    """Return all columns but the ranks; what was not measured is not in the row."""
    case = line.group[0].case
    row = dict(line.keys) | _counts(line.group)
    row |= {"attack_name": case.attack.name, "control": case.control or case.model.label}
    row["version"] = case.attack.version
    done = [record for record in line.group if record.status == "done"]
    for name in metric_facts(done):
        _add_mean(row, name, per_picture(done, name), means)
    pictures = per_picture(done, LEAK)
    if pictures:
        row |= _leak(line, pictures)
        _compare(row, line, control, pictures, means)
    row |= _cost(done)
    if line.keys["defense"] == UNDEFENDED:
        # a model that was trained under a defense on the update is another model
        victim = tuple(str(line.keys[key]) for key in ("model", "weights", "weights_sha256"))
        row |= measured.get(victim, {})  # type: ignore[arg-type]
    taken = {*row, "rank", "flags", "notes"}  # what was measured here stays
    derived = {k: v for k, v in figures(tables, line.keys).items() if k not in taken}
    row |= derived | ({"joined": tuple(derived)} if derived else {})
    of_versions = versions(line.group, line.every, control.group if control else ())
    row["flags"], row["notes"] = flags(
        row, line.group, line.unfaced if row["n"] else None, of_versions
    )
    return row


def _counts(group: Sequence[Record]) -> Row:
    """Count pictures, each once whatever the number of seeds."""
    seen: dict[str, set[tuple[str, int]]] = {"done": set(), "failed": set(), "refused": set()}
    for record in group:
        case = record.case
        seen[record.status] |= {(case.images_sha256, i) for i in range(len(case.images))}
    return {
        "n": len(seen["done"]),
        "failed": len(seen["failed"] - seen["done"]),
        "refused": len(seen["refused"] - seen["done"]),
    }


def _add_mean(row: Row, name: str, pictures: Pictures, means: Means) -> None:
    """Add a mean, and its values to those that get an interval."""
    if values := list(per_batch(pictures).values()):
        row[name] = sum(values) / len(values)
        means.append((row, name, values))


def _leak(line: _Line, pictures: Pictures) -> Row:
    """Return what stands beside the mean leak: worst pictures, oracle, floor, exact, proved."""
    done = [record for record in line.group if record.status == "done"]
    row: Row = {}
    if len(pictures) >= FEWEST:
        row["psnr_p95"] = float(pd.Series(list(pictures.values())).quantile(0.95))
    if line.everyone is not line.group or any(record.members for record in done):
        row["psnr_oracle"] = _mean(best(line.everyone, LEAK, among=pictures))
    row["psnr_floor"] = _mean(per_picture(done, LEAK, lambda record: record.floor))
    cap = metric_facts(done)[LEAK]["cap"]
    if cap is not None:
        row["exact"] = 100 * sum(one >= cap for one in pictures.values()) / len(pictures)
    if (sure := certified(done)) is not None:
        row["proved"] = 100 * sure
    return row


def _compare(
    row: Row, line: _Line, control: _Line | None, pictures: Pictures, means: Means
) -> None:
    """Add the undefended victim's mean on the same pictures, and what is lost against it."""
    if control is None:
        return
    theirs = per_picture(control.group, LEAK)
    common = [key for key in pictures if key in theirs]
    if common:
        row["psnr_control"] = _mean({key: theirs[key] for key in common})
    if control is not line:
        lost = {key: theirs[key] - pictures[key] for key in common}
        _add_mean(row, "lost", lost, means)


def _control(line: _Line, section: Sequence[_Line]) -> _Line | None:
    """Return the undefended victim under the same attack.

    Where the strongest attack stands for all, the strongest of those that both have met: one that
    the control alone has met would make the row's defense look good.
    """
    case = line.group[0].case
    model = case.control or case.model.label
    for other in section:
        if (other.keys["model"], other.keys["defense"]) != (model, UNDEFENDED):
            continue
        if line.everyone is line.group:
            if other.keys["attack"] == line.keys["attack"]:
                return other
            continue
        met = {record.case.attack.label for record in line.everyone}
        theirs: dict[str, list[Record]] = {}
        for record in other.everyone:
            theirs.setdefault(record.case.attack.label, []).append(record)
        if theirs.keys() <= met:
            return other
        shared = [replace(other, group=some) for name, some in theirs.items() if name in met]
        return _strongest(shared) if shared else None
    return None


def _cost(done: Sequence[Record]) -> Row:
    images = sum(len(record.case.images) for record in done)
    if not images:
        return {}
    return {
        "gradient_calls": sum(record.gradient_calls for record in done) / images,
        "seconds": sum(record.seconds or 0 for record in done) / images,
    }


def _ranked(
    lines: Sequence[_Line],
    controls: Sequence[_Line | None],
    rows: Sequence[Row],
    protocol: Mapping[str, Any],
) -> Section:
    """Add ranks and the paired test against the control, and sort."""
    # a control is a line of this section, or one of the attacks that both have met
    pool = {id(line): line for line in (*lines, *filter(None, controls))}
    places = {key: place for place, key in enumerate(pool)}
    units = [per_batch(per_picture(line.group, LEAK)) for line in pool.values()]
    tested = [
        (i, places[id(control)])
        for i, control in enumerate(controls)
        if "lost" in rows[i] and control is not None
    ]
    for (i, _), p in zip(tested, holm(paired(units, tested)), strict=True):
        rows[i]["lost_p"] = p
    ranked = [{} if line.unfaced else unit for line, unit in zip(lines, units, strict=False)]
    for row, rank in zip(rows, ranks(ranked), strict=True):
        row["rank"] = rank
    order = sorted(range(len(rows)), key=lambda i: _place(rows[i]))
    groups = [lines[i].group for i in order]
    return Section(protocol, [rows[i] for i in order], groups, crowded(ranked))


def _place(row: Row) -> tuple[float, str, str, str]:
    """Order rows by their leak; those without any come last."""
    leak = -float(row[LEAK]) if LEAK in row else float("inf")
    return leak, row["model"], row["defense"], row["attack"]


def _natural(text: str) -> list[tuple[int, str]]:
    """Order texts by the numbers in them: batch 2 before batch 12."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", text)]
