"""What a grid compares: a model, a defense, an attack, the batch, or any setting."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from privbench.component import Part
from privbench.errors import BadSetting, UnknownName
from privbench.records.case import UNDEFENDED, Case, Record
from privbench.reports.leaderboard import distinct, rows_of

WHOLE = ("model", "weights", "defense", "attack", "batch", "seed")
"""Columns by the name of what is compared; settings are SECTION.KEY, as with --set."""
SIZE = "batch_size"
UNSET = "default"
"""Of a setting of the threat model that a record does not name."""

Facts = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Records that differ in one thing: by its value, in the order of the columns."""

    axis: str
    shared: Mapping[str, str]
    """What all of them have, for a reader."""
    columns: Mapping[str, Sequence[Record]]


def comparisons(records: Iterable[Record], axis: str) -> list[Comparison]:
    """Return a comparison for all that is alike but for the axis, each of several columns.

    Raises UnknownName for what no record has, and BadSetting where nothing varies.
    """
    groups = list(rows_of(distinct(records)).values())
    known = {name for group in groups for name in _axes(group[0].case)}
    UnknownName.refuse("column to compare", [axis], {*WHOLE, *known})
    found = _varied(groups, axis)
    if not found:
        others = [name for name in (*WHOLE, *sorted(known)) if _varied(groups, name)]
        hint = (
            f"They differ in {', '.join(others)}: name one of these."
            if others
            else "Run more than one of something first."
        )
        raise BadSetting(f"No two of these records differ in {axis} and in nothing else. {hint}")
    return found


def _varied(groups: Sequence[Sequence[Record]], axis: str) -> list[Comparison]:
    together: dict[Hashable, dict[Any, list[Record]]] = {}
    for group in groups:
        case = group[0].case
        if axis in WHOLE or axis.startswith("threat.") or axis in _axes(case):
            rest, value = _apart(case, axis)
            together.setdefault(rest, {}).setdefault(value, []).extend(group)
    found = []
    for columns in together.values():
        if len(columns) < 2:
            continue
        ordered = sorted(columns.items(), key=lambda item: _order(*item, axis))
        case = ordered[0][1][0].case
        heads = {_heading(axis, value): records for value, records in ordered}
        found.append(Comparison(axis, _shared(case, axis), heads))
    return found


def _axes(case: Case) -> list[str]:
    """Return the settings that a case has, as SECTION.KEY."""
    parts = [("model", case.model), ("attack", case.attack)]
    parts += [("defense", part) for part in case.defense[: len(case.defense) == 1]]
    found = [f"{section}.{key}" for section, part in parts for key in part.settings]
    return found + [f"threat.{key}" for key in case.threat]


def _apart(case: Case, axis: str) -> tuple[Hashable, Any]:
    """Return all that tells a case from others but the axis, and its value there."""
    facts: Facts = {
        "model": _text(case.model),
        "weights": case.weights,
        "defense": tuple(map(_text, case.defense)),
        "attack": _text(case.attack),
        "threat": {k: str(v) for k, v in case.threat.items() if k != SIZE},
        "batch": case.threat[SIZE],
        "seed": case.seed,
        "dataset": case.dataset.label,
    }
    section, _, key = axis.partition(".")
    if not key:
        value = {"model": case.model.label, "attack": case.attack.label}.get(axis, facts[axis])
        value = case.defended if axis == "defense" else value
        del facts[axis]
    elif section == "threat":
        value = case.threat.get(key, UNSET)
        facts["threat"].pop(key, None)
        facts |= {"batch": None} if key == SIZE else {}
    else:
        part = {"model": case.model, "attack": case.attack, "defense": case.defense[0]}[section]
        value, facts[section] = part.settings[key], _text(part, key)
    return str(sorted(facts.items())), value if isinstance(value, int | float) else str(value)


def _text(part: Part, without: str = "") -> str:
    return str((part.name, sorted((k, str(v)) for k, v in part.settings.items() if k != without)))


def _order(value: Any, records: Sequence[Record], axis: str) -> tuple[Any, ...]:
    """Order numbers by size, and names by the alphabet, what is undefended first."""
    case = records[0].case
    later = {"model": case.control != case.model.label, "defense": case.defended != UNDEFENDED}
    number = isinstance(value, int | float)
    return later.get(axis, False), not number, value if number else 0, str(value)


def _heading(axis: str, value: Any) -> str:
    if "." in axis or axis in ("batch", "seed"):
        return f"{axis.rpartition('.')[2].replace('_', ' ')} {value}"
    return str(value)


def _shared(case: Case, axis: str) -> dict[str, str]:
    """Return what a reader must know of all columns, the axis left out."""
    section, _, key = axis.partition(".")
    words = {
        "model": case.model.label if section != "model" else case.model.name if key else "",
        "weights": f"{case.weights} weights" if axis != "weights" else "",
        "attack": case.attack.label if section != "attack" else case.attack.name if key else "",
        "defense": case.defended if section != "defense" else case.defense[0].name if key else "",
        "dataset": case.dataset.label,
        "threat": case.known if section not in ("batch", "threat") else "",
        "seed": f"seed {case.seed}" if axis != "seed" else "",
    }
    return {name: text for name, text in words.items() if text}
