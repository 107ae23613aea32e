"""Records of bounds to a table: a pure function."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pandas as pd

from privbench.bounds.formal import named
from privbench.records.asked import of_one_data_set
from privbench.records.bound import CAP, BoundRecord, decibels
from privbench.records.sealed import newest
from privbench.reports.stats import mean_interval

KEYS = ("model", "weights", "weights_sha256", "defense", "dataset", "seed")
FORMAL = ("named", "unaided", "informed")
FIGURES = (
    *("n", "ceiling", "ceiling_lo", "ceiling_hi", "exact", "blind"),
    *FORMAL,
    *("seconds", "version", "notes"),
)


def bound_table(records: Iterable[BoundRecord]) -> pd.DataFrame:
    """Return a row per victim, defense and data set: the mean ceiling over pictures, in dB.

    With its 95 % interval; `exact` counts pictures at the cap, `blind` is what the prior alone
    would give. One that is not resolved leaves its row without a ceiling. `named`, `unaided` and
    `informed` hold for any network under Gaussian noise on a clipped gradient: the chance to name
    a picture, and dB. Of records of several versions the newest count; `version` says which.
    """
    groups: dict[tuple[Any, ...], list[BoundRecord]] = defaultdict(list)
    told = of_one_data_set(records, lambda one: (*_key(one), one.case.images))
    for record in sorted(told, key=lambda one: (one.case.images, one.case.key)):
        groups[_key(record)].append(record)
    rows = []
    for key in sorted(groups, key=str):
        group = newest(groups[key])
        found = [one.decibels for one in group]
        mean, low, high = mean_interval(found)
        rows.append(
            {
                **dict(zip(KEYS, key, strict=True)),
                "n": len(group),
                "ceiling": mean,
                "ceiling_lo": low,
                "ceiling_hi": high,
                "exact": sum(one >= CAP for one in found),
                "blind": mean_interval([decibels(one.blind) for one in group])[0],
                **_formal(group),
                "seconds": mean_interval([one.seconds for one in group])[0],
                "version": group[0].case.bound.version,
                "notes": " | ".join(dict.fromkeys(t for one in group for t in one.warnings)),
            }
        )
    return pd.DataFrame(rows, columns=[*KEYS, *FIGURES])


def bound_tables(records: Iterable[BoundRecord]) -> dict[str, pd.DataFrame]:
    """Return the table of all ceilings, and what of it joins the leaderboard, by their places."""
    table = bound_table(records)
    return {"bounds.csv": table, "joined/ceiling.csv": join_table(table)}


def join_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return what joins the leaderboard: the ceilings, by the names of its rows."""
    return table.reindex(columns=[*KEYS, "ceiling", "ceiling_lo", "ceiling_hi"])


def _formal(group: list[BoundRecord]) -> dict[str, float]:
    """Return means of what holds for any network; NaN where nothing is clipped and noisy."""
    chances = [named(one.noise) for one in group if one.noise is not None]
    found = {
        name: [decibels(v) for one in group if (v := getattr(one, name)) is not None]
        for name in FORMAL[1:]
    }
    return {n: mean_interval(v)[0] for n, v in {FORMAL[0]: chances, **found}.items()}


def _key(record: BoundRecord) -> tuple[Any, ...]:
    case = record.case
    return (
        case.model.label,
        case.weights,
        case.weights_sha256[:12],
        case.defended,
        case.dataset.label,
        case.seed,
    )
