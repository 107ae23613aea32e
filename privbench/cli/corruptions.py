"""Errors by corruption and severity for a terminal."""

from collections.abc import Iterable
from typing import Any

from rich import box
from rich.table import Table

from privbench.corruption_names import SEVERITIES
from privbench.records.utility import UtilityRecord
from privbench.utility.cells import ALL, corruption_table, partial
from privbench.utility.tasks import tasks

MEAN = "mean of these"
Row = dict[Any, Any]


def corruption_boards(records: Iterable[UtilityRecord]) -> list[Table]:
    """Return a table for each test whose errors no mean over all corruptions holds."""
    given = list(records)
    wanted = {
        (*who[:3], task.name, task.dataset, task.n)
        for who, measured in tasks(given).items()
        for task in measured
        if partial(task)
    }
    named = ("model", "weights", "weights_sha256", "evaluation", "dataset")
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in corruption_table(given).to_dict("records"):
        groups.setdefault(tuple(row[key] for key in named), []).append(row)
    shown = {one[:5] for one in wanted}
    return [_board(who, rows) for who, rows in groups.items() if who in shown]


def _board(who: tuple[Any, ...], rows: list[Row]) -> Table:
    model, weights, _, evaluation, dataset = who
    counts = {row["n"] for row in rows}
    n = " or ".join(f"{count:,}" for count in sorted(counts))
    drawn = Table(
        title=f"{model}, {weights}: top-1 error in percent, {evaluation} of {dataset}, n {n}; "
        "intervals are in the table",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
    )
    levels = [0, *SEVERITIES]
    levels = [level for level in levels if any(row["severity"] == level for row in rows)]
    drawn.add_column("corruption")
    for heading in (*(f"severity {level}" if level else "clean" for level in levels), MEAN):
        drawn.add_column(heading, justify="right")
    for corruption in dict.fromkeys(row["corruption"] for row in rows):
        mine = {row["severity"]: row for row in rows if row["corruption"] == corruption}
        name = MEAN if corruption == ALL else str(corruption)
        drawn.add_row(name, *(_number(mine.get(level)) for level in (*levels, ALL)))
    return drawn


def _number(row: Row | None) -> str:
    """Return a figure; its interval is in the CSV file."""
    for name in ("error", "mean_error"):
        if row is not None and row[name] == row[name]:
            return f"{row[name]:.1f}"
    return ""
