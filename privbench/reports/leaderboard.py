"""Records to a table: a pure function."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from privbench.errors import BadData
from privbench.records.asked import of_one_data_set, plain_name, whole
from privbench.records.case import UNDEFENDED, Record, Scores
from privbench.records.files import write
from privbench.records.sealed import newest
from privbench.reports.stats import mean_intervals
from privbench.reports.unranked import faced, unranked
from privbench.reports.versions import versions

TABLE = "leaderboard.csv"
"""Its name in a results folder."""
KEYS = (
    *("model", "weights", "weights_sha256", "defense", "attack", "dataset", "threat", "seed"),
    "suite",
)
"""What tells rows apart; the suite, with its version, only for what one asked for."""
DIGITS = 6
LEAKS = 1.0
"""Decibels over the mean color that an attack has to reach on the control to count elsewhere."""
SAME = 1e-6
"""Decibels up to which an answer is the flat picture itself."""
VOID = "The undefended control does not leak under this attack: this row is void."

Row = dict[str, Any]
Key = tuple[Any, ...]


def leaderboard(records: Iterable[Record], beside: Iterable[Record] = ()) -> pd.DataFrame:
    """Return a row per victim, defense, attack, data set, threat model and seed.

    For each metric: mean, 95 % bootstrap interval over images (_lo, _hi), for an ensemble the mean
    of each image's best score over its members (_oracle), which no attacker can select, the
    mean-color picture's mean (_floor), the undefended victim's mean under the same attack
    (_control), and how many scores reached the metric's cap (_exact). Failed and refused images
    are counted, never left out in silence. Empty means not measured. Controls are looked for
    among records and among those beside them, and count on the same pictures only.
    """
    mine, pool = _distinct(records, beside)
    every = every_row(mine)
    groups = {key: newest(group) for key, group in every.items()}
    refuse_mixed(chain(*groups.values()))
    rows = [dict(zip(KEYS, key, strict=True)) | _row(group) for key, group in groups.items()]
    _add_intervals(rows, groups)
    controls: dict[Key, list[Record]] = defaultdict(list)
    for key, group in rows_of(pool).items():
        controls[_alike(key)] += _done(group)
    ran = faced(pool)
    for row, (key, group) in zip(rows, groups.items(), strict=True):
        twins = _twins(row, group, controls)
        row |= {f"{name}_control": _control(name, twins) for name in _metrics(_done(group))}
        unfaced = unranked(group[0].case, ran) if row["n"] else None
        notes = (row["notes"], *versions(group, every[key], twins), VOID * void(row), unfaced)
        row["notes"] = " | ".join(filter(None, notes))
    table = pd.DataFrame(rows, columns=None if rows else list(KEYS))
    if not any(row["suite"] for row in rows):
        table = table.drop(columns="suite")
    return table.reindex(columns=_columns(table.columns)) if rows else table


def write_table(folder: Path, table: pd.DataFrame) -> Path:
    """Write the table into a results folder; return its place."""
    write(folder / TABLE, to_csv(table))
    return folder / TABLE


def to_csv(table: pd.DataFrame) -> bytes:
    """Text of the CSV file, numbers to six significant digits."""
    return table.to_csv(index=False, float_format=f"%.{DIGITS}g", lineterminator="\n").encode()


def rows_of(records: Iterable[Record]) -> dict[Key, list[Record]]:
    """Sort records into rows by KEYS, each with the newest component versions only."""
    return {key: newest(group) for key, group in every_row(records).items()}


def every_row(records: Iterable[Record]) -> dict[Key, list[Record]]:
    """Sort records into rows by KEYS, whatever their versions."""
    groups: dict[Key, list[Record]] = defaultdict(list)
    # Sorted, because a bootstrap over the same scores in another order is another interval.
    unique = {(one.case.key, one.case.dataset.label, one.data, one.suite): one for one in records}
    for record in sorted(unique.values(), key=lambda record: (record.case.images, record.case.key)):
        groups[_key(record)].append(record)
    return {key: groups[key] for key in sorted(groups)}


def distinct(records: Iterable[Record]) -> list[Record]:
    """Return records whose data sets' names say which data they are of, as rows have them."""
    return _distinct(records, ())[0]


def _distinct(
    records: Iterable[Record], beside: Iterable[Record]
) -> tuple[list[Record], list[Record]]:
    """Return records, and these with those beside them, no two data sets under one name."""
    mine = whole(records, _key)
    pool = of_one_data_set([*mine, *whole(beside, _key)], _place)
    return pool[: len(mine)], pool


def _place(record: Record) -> Key:
    case = record.case
    return case.model.label, case.weights, case.weights_sha256, case.images


def _done(group: list[Record]) -> list[Record]:
    return [record for record in group if record.status == "done"]


def _key(record: Record) -> Key:
    case = record.case
    return (
        case.model.label,
        case.weights,
        case.weights_sha256[:12],
        case.defended,
        case.attack.label,
        case.dataset.label,
        case.known,
        case.seed,
        record.suite,
    )


def _row(group: list[Record]) -> Row:
    done = _done(group)
    row: Row = {
        "n": _images(group, "done"),
        "failed": _images(group, "failed"),
        "refused": _images(group, "refused"),
    }
    for name, facts in _metrics(done).items():
        row[f"{name}_floor"] = _mean(_values((record.floor for record in done), name))
        if facts["cap"] is not None:
            values = _values((record.scores for record in done), name)
            row[f"{name}_exact"] = sum(value >= facts["cap"] for value in values)
        if any(record.members for record in done):
            row[f"{name}_oracle"] = _mean(_best(done, name, facts["higher_is_better"]))
    row["masked"] = _mean([m for record in done for m in record.masked or ()])
    row["label_accuracy"] = _mean(_known(record.label_accuracy for record in done))
    row["objective"] = _mean(_known(record.objective for record in done))
    row["chosen"] = _chosen(done)
    images = max(row["n"], 1)
    row["seconds"] = sum(record.seconds or 0 for record in done) / images if done else None
    row["gradient_calls"] = sum(record.gradient_calls for record in done) / images if done else None
    notes = [record.error for record in group if record.error] + [
        warning for record in done for warning in record.warnings
    ]
    row["version"] = group[0].case.attack.version
    row["notes"] = " | ".join(dict.fromkeys(notes))
    return row


def _add_intervals(rows: list[Row], groups: Mapping[Key, list[Record]]) -> None:
    """Add mean and interval of every metric, all of the table at once."""
    places: list[tuple[Row, str]] = []
    columns: list[list[float]] = []
    for row, group in zip(rows, groups.values(), strict=True):
        done = _done(group)
        for name in _metrics(done):
            places.append((row, name))
            columns.append(_values((record.scores for record in done), name))
    for (row, name), interval in zip(places, mean_intervals(columns), strict=True):
        row[name], row[f"{name}_lo"], row[f"{name}_hi"] = interval


def refuse_mixed(records: Iterable[Record]) -> None:
    """Raise BadData where one metric comes in two versions, which no table may mix."""
    known: dict[str, tuple[Any, Any]] = {}
    for record in records:
        for name, facts in record.metrics.items():
            version = (facts.get("version"), facts.get("weights_sha256", ""))
            if known.setdefault(name, version) != version:
                raise BadData(
                    f"The records hold metric '{name}' in more than one version, and a table must "
                    "not mix them. Bring all to the newest with `privbench rescore`, with the same "
                    "--out."
                )


def _images(group: list[Record], status: str) -> int:
    return sum(len(record.case.images) for record in group if record.status == status)


def _metrics(done: list[Record]) -> Mapping[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for record in done:
        found |= {name: record.metrics[name] for name in record.scores}
    return found


def _best(done: list[Record], name: str, high: bool) -> list[float]:
    """Each image's best score over the members of an ensemble and the answer handed in."""
    found = []
    for record in done:
        rows = [one[name] for one in (record.scores, *record.members.values()) if name in one]
        for scores in zip(*rows, strict=True):
            if known := _known(scores):
                found.append(max(known) if high else min(known))
    return found


def _chosen(done: list[Record]) -> str | None:
    """Members whose answers were handed in, with counts, the most frequent first."""
    counts = Counter(record.choice for record in done if record.choice)
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or None


def _values(scores: Iterable[Scores], name: str) -> list[float]:
    return _known(value for one in scores for value in one.get(name, ()))


def _known(values: Iterable[float | None]) -> list[float]:
    """Leave out what a record's file shows as null: nothing, NaN and infinity."""
    return [value for value in values if value is not None and isfinite(value)]


def _mean(values: list[Any]) -> float | None:
    return sum(values) / len(values) if values else None


def _twins(row: Row, group: list[Record], known: Mapping[Key, list[Record]]) -> list[Record]:
    """Return what the undefended victim gave, attacked alike on the same pictures."""
    own = tuple(row[name] for name in KEYS)
    twins = known.get((group[0].case.control, UNDEFENDED, *_alike(own)[2:]), [])
    pictures = {record.case.images_sha256 for record in group}
    return [record for record in twins if record.case.images_sha256 in pictures]


def _control(name: str, twins: list[Record]) -> float | None:
    """Mean of a metric over the undefended victim's answers, each case once."""
    return _mean(_values({one.case.key: one.scores for one in twins}.values(), name))


def void(row: Row) -> bool:
    """Whether an attack fails on the undefended control, too; a flat picture tries nothing.

    One that evaluates gradients has tried, also where it gives up with the mean color.
    """
    leak, control, floor = (row.get(f"psnr{end}") for end in ("", "_control", "_floor"))
    if leak is None or control is None or floor is None:
        return False
    tried = bool(row.get("gradient_calls")) or abs(leak - floor) > SAME
    return tried and control < floor + LEAKS


def _alike(key: Key) -> Key:
    """Model and defense first, then all that a control must share; weights differ by nature."""
    named = dict(zip(KEYS, key, strict=True))
    same = ("weights", "attack", "dataset", "threat", "seed", "suite")
    named["dataset"] = plain_name(named["dataset"])
    return (named["model"], named["defense"], *(named[name] for name in same))


def _columns(found: Iterable[str]) -> list[str]:
    """Keys and counts first, then metric by metric, then cost; the suite only where one is."""
    last = ["masked", "chosen", "label_accuracy", "objective", "seconds", "gradient_calls"]
    last += ["version", "notes"]
    first = [key for key in (*KEYS, "n", "failed", "refused") if key in set(found)]
    middle = sorted(set(found) - set(first) - set(last), key=_metric_order)
    return [*first, *middle, *last]


def _metric_order(column: str) -> tuple[str, int]:
    for place, ending in enumerate(("_lo", "_hi", "_oracle", "_floor", "_control", "_exact"), 1):
        if column.endswith(ending):
            return column.removesuffix(ending), place
    return column, 0
