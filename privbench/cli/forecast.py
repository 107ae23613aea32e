"""The command line's forecast: what a run would do, and what it would cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from privbench.running.forecast import Forecast
    from privbench.running.suite import Suite


def foretell(
    screen: "Console",
    suite: "Suite",
    out: Path,
    device: str,
    shard: str | None,
    *,
    retry_failed: bool,
) -> None:
    """Print what a run would do, and what it would cost; nothing runs."""
    with screen.status("planning"):
        from privbench.api import foresee
        from privbench.records.store import Store

        rows = foresee(suite, Store(out), device, retry_failed=retry_failed, shard=shard)
    screen.print(_board(rows))
    cases, done, refused, known = (
        sum(getattr(row, name) for row in rows) for name in ("cases", "done", "refused", "known")
    )
    left = cases - done - refused
    said = [f"{cases} cases: {done} on record, {refused} refused, {left} to run. Nothing was run."]
    if known:
        said.append(
            f"About {sum(row.gradient_calls for row in rows):,.0f} gradient evaluations and "
            f"{sum(row.seconds for row in rows):,.1f} s, one case after another, for {known} of "
            "them: the mean of records of the same kind."
        )
    guessed = sum(row.guessed for row in rows)
    if guessed:
        seconds = sum(row.guessed_seconds for row in rows)
        said.append(
            f"About {seconds:,.0f} s ({seconds / 3600:,.1f} hours) for {guessed} of them, by what "
            "the suite says of such cases on one core, since no record does."
        )
    if known + guessed < left:
        said.append(
            f"No estimate for {left - known - guessed} of them: under {out} is no record of that "
            "attack, with these settings, on a victim of that size."
        )
    for sentence in said:
        screen.print(sentence, highlight=False, soft_wrap=True)


def _board(rows: "Sequence[Forecast]") -> "Table":
    """Draw a row for each attack, victim and defense."""
    from rich import box
    from rich.table import Table

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("model", "defense", "attack"):
        drawn.add_column(heading, overflow="fold")
    for heading in ("cases", "on record", "refused", "to run", "gradients", "s"):
        drawn.add_column(heading, justify="right")
    for row in rows:
        gradients = f"{row.gradient_calls:,.0f}" if row.known else ""
        seconds = row.seconds + row.guessed_seconds
        cost = [gradients, f"{seconds:,.1f}" if row.known or row.guessed else ""]
        counts = map(str, (row.cases, row.done, row.refused, row.to_run))
        drawn.add_row(row.model, row.defense, row.attack, *counts, *cost)
    return drawn
