"""The command line's price: what a defense costs in accuracy, bytes and seconds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privbench.cli.options import Names, On, Out, Weights, console

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
    dataset: Annotated[
        str | None, typer.Option(help="Pictures. \\[default: the victim's own]")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder that holds train and test.", metavar="PATH")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the pictures' order and all draws. \\[default: 0]")
    ] = None,
    set_: Annotated[
        Names,
        typer.Option(
            "--set",
            help="defense.sigma=0.1; also dataset., model. Repeat it.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    weights: Weights = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Out = Path("results"),
    suite: Annotated[
        str | None, typer.Option(help="A bundled suite or a YAML file.", metavar="FILE")
    ] = None,
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
    for note in dict.fromkeys(t for one in records for t in one.warnings):
        screen.print(f"Note. {note}", highlight=False, soft_wrap=True)
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
    from rich import box
    from rich.table import Table

    first = table.iloc[0]
    drawn = Table(
        title=f"Federated SGD, {first['form']} form, {first['n']} test pictures: "
        "points of top-1 that a defense costs",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
    )
    for heading in ("model", "weights", "defense"):
        drawn.add_column(heading, overflow="fold", min_width=8)
    for heading in ("start, %", "top-1, % (95 %)", "price, points (95 %)", "kB a step", "s a step"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for row in table.to_dict("records"):
        shares = [row[name] for name in ("top1", "top1_lo", "top1_hi")]
        lost = [row[name] for name in ("price", "price_lo", "price_hi")]
        drawn.add_row(
            *(str(row[key]) for key in ("model", "weights", "defense")),
            f"{100 * row['start']:.1f}",
            _interval(shares),
            _interval(lost) if lost[0] == lost[0] else "",
            f"{row['bytes'] / 1000:,.1f}",
            f"{row['seconds']:.2f}",
        )
    return drawn


def _interval(shares: list[float]) -> str:
    mean, low, high = (100 * one + 0.0 for one in shares)
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"
