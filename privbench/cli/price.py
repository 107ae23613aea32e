"""The command line's price: what a defense costs in accuracy, bytes and seconds."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from privbench.cli.options import (
    Device,
    Names,
    OfDefense,
    On,
    Out,
    Pictures,
    Splits,
    SuiteFile,
    Weights,
    console,
)
from privbench.cli.sheet import print_notes, sheet

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from privbench.price.plan import Task


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(price)


def price(
    model: Annotated[Names, typer.Option(help="Victims; all combinations are priced.")] = None,
    defense: On = None,
    dataset: Pictures = None,
    data_root: Splits = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the pictures' order and all draws. \\[default: 0]")
    ] = None,
    set_: OfDefense = None,
    weights: Weights = None,
    device: Device = "auto",
    out: Out = Path("results"),
    suite: SuiteFile = None,
    short: Annotated[
        bool, typer.Option("--short", help="The short form: 20 steps instead of 1170.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would run, and how long.")
    ] = False,
) -> None:
    """Train by federated SGD with a defense and without, and compare the accuracies.

    One protocol for all; without --short twenty minutes a defense on one idle core. The same
    command goes on where it was stopped.
    """
    screen = console()
    with screen.status("loading"):
        from privbench.cli.tables import Passes
        from privbench.price.plan import Request
        from privbench.price.protocol import FULL, SHORT
        from privbench.price.run import forecast
        from privbench.price.run import price as compute
        from privbench.price.table import price_table
        from privbench.running.suite import single

        options = {
            "model": model,
            "defense": defense,
            "dataset": dataset,
            "data_root": data_root,
            "seed": seed,
            "set": set_ or [],
            "weights": weights,
        }
        request = single(Request, options, suite)
    form, passes = SHORT if short else FULL, Passes(screen, "steps")
    if dry_run:
        with screen.status("reading pictures, and taking a step of each"):
            tasks = forecast(request, form, device, out)
        _foretell(screen, tasks)
        return
    passes.bar.update(passes.task, description="reading pictures")
    with passes.bar:
        records = compute(request, form, device, out, passes.report)
    table = price_table(records)
    screen.print(_board(table))
    print_notes(screen, (text for one in records for text in one.warnings))
    screen.print(f"Table of all prices: {out / 'price.csv'}", soft_wrap=True)


def _foretell(screen: "Console", tasks: "list[tuple[Task, float | None]]") -> None:
    """Say what would run and how long, by one step of each."""
    for task, seconds in tasks:
        cost = "on record" if seconds is None else f"about {seconds / 60:.0f} minutes of steps"
        screen.print(f"{task.title}: {cost}", highlight=False)
    left = [seconds for _, seconds in tasks if seconds is not None]
    screen.print(
        f"{len(tasks)} trainings: {len(tasks) - len(left)} on record, {len(left)} to run, "
        f"{sum(left) / 60:.0f} minutes by one step of each. Nothing was run.",
        highlight=False,
        soft_wrap=True,
    )


def _board(table: "pd.DataFrame") -> "Table":
    first = table.iloc[0]
    return sheet(
        f"Federated SGD, {first['form']} form, {first['n']} test pictures: "
        "points of top-1 that a defense costs",
        ("start, %", "top-1, % (95 %)", "price, points (95 %)", "kB a step", "s a step"),
        ((row, _figures(row)) for row in table.to_dict("records")),
    )


def _figures(row: Mapping[Any, Any]) -> list[str]:
    shares = [row[name] for name in ("top1", "top1_lo", "top1_hi")]
    lost = [row[name] for name in ("price", "price_lo", "price_hi")]
    return [
        f"{100 * row['start']:.1f}",
        _interval(shares),
        _interval(lost) if lost[0] == lost[0] else "",
        f"{row['bytes'] / 1000:,.1f}",
        f"{row['seconds']:.2f}",
    ]


def _interval(shares: list[float]) -> str:
    mean, low, high = (100 * one + 0.0 for one in shares)
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"
