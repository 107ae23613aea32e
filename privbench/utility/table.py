"""Utility records to a table: a pure function."""

from collections import defaultdict
from collections.abc import Iterable
from math import isfinite
from typing import Any

import pandas as pd

from privbench.kind import Kind
from privbench.records.asked import apart
from privbench.records.sealed import newest_of_each
from privbench.records.utility import UtilityRecord
from privbench.reports.columns import interval

KEYS = ("model", "weights", "weights_sha256", "dataset", "n", "seed")
FIRST = ("top", "shuffled", "agreement")
ENDINGS = ("_lo", "_hi", "_n")

Key = tuple[Any, ...]


def utility_table(records: Iterable[UtilityRecord]) -> pd.DataFrame:
    """Return a row per victim, pictures and seed, with a mean per column that was measured.

    Each mean has its 95 % interval (_lo, _hi), as its kind asks for; `_n` where not all pictures
    count. Empty means not measured, never filled in. Tests of robustness have a table of their own.
    """
    groups: dict[Key, list[UtilityRecord]] = defaultdict(list)
    plain = [record for record in records if not record.case.tests_robustness]
    told = apart(plain, lambda one: one.case.images_sha256, lambda one: one.case.n)
    for record in sorted(told, key=lambda record: record.case.key):
        groups[_key(record)].append(record)
    rows = []
    for key in sorted(groups, key=str):
        row = dict(zip(KEYS, key, strict=False))  # the pictures' hash stays out of the table
        for name, (kind, values) in _newest(groups[key]).items():
            row |= _figures(name, kind, values, row["n"])
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.reindex(columns=[*KEYS, *_columns(table.columns)]) if rows else table


def _key(record: UtilityRecord) -> Key:
    case = record.case
    return (
        case.model.label,
        case.weights,
        case.weights_sha256[:12],
        case.dataset.label,
        case.n,
        case.seed,
        case.images_sha256,
    )


def _newest(group: list[UtilityRecord]) -> dict[str, tuple[Kind, list[float | None]]]:
    """Columns of all records with their kinds, those of the newest component versions only."""
    found: dict[str, tuple[Kind, list[float | None]]] = {}
    for record in newest_of_each(group, lambda one: one.case.evaluation.label):
        part = record.case.evaluation
        changed = part.label.removeprefix(part.name)  # tells the same columns apart
        found |= {
            f"{name}{changed}": (record.kind(name), values)
            for name, values in record.values.items()
        }
    return found


def _figures(name: str, kind: Kind, values: list[float | None], n: int) -> dict[str, Any]:
    known = [value for value in values if value is not None and isfinite(value)]
    mean, low, high = interval(kind, known)
    found = {name: mean, f"{name}_lo": low, f"{name}_hi": high}
    return found | ({f"{name}_n": len(known)} if len(known) != n else {})


def _columns(found: Iterable[str]) -> list[str]:
    """Accuracy first, then shuffled pictures, then by name; each mean before its interval."""
    names = [name for name in found if name not in KEYS]

    def order(name: str) -> tuple[int, str, int]:
        first = next((i for i, start in enumerate(FIRST) if name.startswith(start)), len(FIRST))
        for place, ending in enumerate(ENDINGS, 1):
            if name.endswith(ending):
                return first, name.removesuffix(ending), place
        return first, name, 0

    return sorted(names, key=order)
