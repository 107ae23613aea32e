"""Records of prices to a table: a pure function."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from privbench.records.asked import of_one_data_set
from privbench.records.price import PriceRecord
from privbench.records.sealed import newest
from privbench.reports.leaderboard import KEYS as NAMES
from privbench.reports.stats import mean_intervals, share_interval

KEYS = ("model", "weights", "weights_sha256", "defense", "dataset", "form", "seed")
FIGURES = (
    *("n", "start", "top1", "top1_lo", "top1_hi", "price", "price_lo", "price_hi"),
    *("bytes", "bytes_share", "seconds", "seconds_share", "notes"),
)
POINTS = "price_points"
"""What joins the leaderboard: points of top-1 that are lost."""
FORM = "price_form"
"""What joins beside them: a short training's points are no full one's."""


def price_table(records: Iterable[PriceRecord]) -> pd.DataFrame:
    """Return a row per victim, defense, data set, form and seed.

    `top1` is the share of right answers after the last step with its Wilson interval, `start` that
    before the first. `price` is the undefended training's share minus it, on the same pictures,
    with its bootstrap interval over them; empty for the undefended one. `bytes` are those of one
    client's update, `seconds` those of a step of all clients, both beside the undefended one's.
    """
    told = of_one_data_set(records, lambda one: (*_key(one), one.case.n))
    groups: dict[tuple[Any, ...], list[PriceRecord]] = {}
    for record in told:
        groups.setdefault(_key(record), []).append(record)
    found = [
        max(newest(group), key=lambda one: one.case.key)
        for _, group in sorted(groups.items(), key=lambda one: str(one[0]))
    ]
    plain = {one.case.pair: one for one in found if one.case.undefended}
    pairs = [None if one.case.undefended else plain.get(one.case.pair) for one in found]
    lost = mean_intervals([_lost(one, pair) for one, pair in zip(found, pairs, strict=True)])
    rows = [
        dict(zip(KEYS, _key(one), strict=True)) | _figures(one, plain.get(one.case.pair), price)
        for one, price in zip(found, lost, strict=True)
    ]
    return pd.DataFrame(rows, columns=[*KEYS, *FIGURES])


def price_tables(records: Iterable[PriceRecord]) -> dict[str, pd.DataFrame]:
    """Return the table of all prices, and what of it joins the leaderboard, by their places."""
    table = price_table(records)
    return {"price.csv": table, "joined/price.csv": join_table(table)}


def join_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return the prices in points, one a victim and defense: of the longest form and first seed."""
    names = [name for name in NAMES if name in KEYS and name not in ("dataset", "seed")]
    found: dict[tuple[Any, ...], dict[Any, Any]] = {}
    rows = [row for row in table.to_dict("records") if row["price"] == row["price"]]
    for row in sorted(rows, key=lambda one: (one["form"], one["dataset"], one["seed"])):
        found.setdefault(tuple(row[name] for name in names), row)
    ends = ("", "_lo", "_hi")
    return pd.DataFrame(
        [
            {name: row[name] for name in names}
            | {POINTS + end: 100 * row[f"price{end}"] for end in ends}
            | {FORM: row["form"]}
            for row in found.values()
        ],
        columns=[*names, *(POINTS + end for end in ends), FORM],
    )


def _key(record: PriceRecord) -> tuple[Any, ...]:
    case = record.case
    return (
        case.model.label,
        case.weights,
        case.weights_sha256[:12],
        case.defended,
        case.dataset.label,
        case.price.label,
        case.seed,
    )


def _lost(record: PriceRecord, plain: PriceRecord | None) -> Sequence[float]:
    """Return for each picture what the undefended answer has over the defended one's: -1, 0, 1."""
    if plain is None:
        return []
    return [float(a - b) for a, b in zip(plain.hits, record.hits, strict=True)]


def _figures(
    record: PriceRecord, plain: PriceRecord | None, price: tuple[float, float, float]
) -> dict[str, Any]:
    n = record.case.n
    top1, low, high = share_interval(sum(record.hits), n)
    return {
        "n": n,
        "start": record.before / n,
        **{"top1": top1, "top1_lo": low, "top1_hi": high},
        **{"price": price[0], "price_lo": price[1], "price_hi": price[2]},
        "bytes": record.sent,
        "bytes_share": record.sent / plain.sent if plain else None,
        "seconds": record.seconds,
        "seconds_share": record.seconds / plain.seconds if plain else None,
        "notes": " | ".join(record.warnings),
    }
