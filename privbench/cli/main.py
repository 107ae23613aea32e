"""The command line: parse, call, print."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from privbench.cli import utility as cli_utility
from privbench.cli import victims as cli_victims
from privbench.cli.options import Names, Out, Weights, console, split_names
from privbench.errors import PrivbenchError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from privbench.records.case import Record
    from privbench.records.store import Store

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help=(
        "How much does a vision transformer's shared gradient give away?\n\n"
        "privbench run --attack gradinv --model vit_mjp\n\n"
        "privbench run --attack pe_ls,gradinv --model vit_vanilla,vit_mjp --images 4\n\n"
        "privbench show gradinv"
    ),
)

cli_victims.register(app)
cli_utility.register(app)

STOPPED = 130
"""Exit code that typer makes of Ctrl-C."""


@app.command()
def run(
    attack: Annotated[
        Names, typer.Option(help="Attacks; repeat it, or separate by commas.")
    ] = None,
    model: Annotated[Names, typer.Option(help="Victims; all combinations are run.")] = None,
    defense: Annotated[
        Names, typer.Option(help="On the shared update; a+b stacks two. \\[default: none]")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Private pictures. \\[default: the victim's own]")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder that holds the data set.", metavar="PATH")
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="How many, or which: 3,5,7. \\[default: 8]", metavar="N")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images per update. \\[default: 1]", metavar="B")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of client and attack. \\[default: 0]")
    ] = None,
    set_: Annotated[
        Names,
        typer.Option(
            "--set",
            help="attack.steps=500; also dataset., defense., model., threat. Repeat it.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    tier: Annotated[
        str | None,
        typer.Option(help="Budget of an ensemble, for short: --set attack.tier=fast."),
    ] = None,
    weights: Weights = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Cases at once. \\[default: one a core if they are small]", metavar="N", min=1
        ),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="Where cases run: threads, or processes of their own.")
    ] = "threads",
    shard: Annotated[
        str | None, typer.Option(help="One of N parts, such as 2/3.", metavar="I/N")
    ] = None,
    out: Out = Path("results"),
    suite: Annotated[
        str | None, typer.Option(help="A bundled suite or a YAML file.", metavar="FILE")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run failed cases again.")
    ] = False,
) -> None:
    """Attack victims, score what comes back, write records, table and grids."""
    from privbench.running.suite import Suite

    options = {
        "attack": attack,
        "model": model,
        "defense": defense,
        "dataset": dataset,
        "data_root": data_root,
        "images": images,
        "batch_size": batch_size,
        "seed": seed,
        "set": [*(set_ or []), *([f"attack.tier={tier}"] if tier else [])],
        "weights": weights,
    }
    chosen = Suite.build(options, suite)
    screen = console()
    with screen.status("loading"):
        from privbench.api import conduct
        from privbench.cli.tables import Watch
        from privbench.records.store import Store
        from privbench.reports.grid import save_all
        from privbench.reports.leaderboard import leaderboard as tabulate

    store = Store(out)
    watch = Watch(screen)
    with watch.bars:
        outcome = conduct(
            chosen,
            store,
            device,
            watch,
            retry_failed=retry_failed,
            at_once=jobs,
            executor=executor,
            shard=shard,
        )
    if not (records := outcome.records):
        screen.print(f"No case falls to part {shard}.")
        return
    with screen.status("drawing"):
        grids = save_all(records, store)
    _print_board(screen, tabulate(records, beside=outcome.known))
    screen.print(f"Table of all results: {out / 'leaderboard.csv'}", soft_wrap=True)
    for path in grids:
        screen.print(f"Grid: {path}", soft_wrap=True)


@app.command("list")
def list_(
    shelf: Annotated[
        str | None,
        typer.Argument(
            help="attacks, defenses, models, datasets, metrics, evals or suites; all if left out."
        ),
    ] = None,
    format_: Annotated[
        Literal["text", "md"],
        typer.Option("--format", help="text, or md for a reference page with all settings."),
    ] = "text",
) -> None:
    """List what there is, a line each."""
    from rich import box
    from rich.table import Table

    from privbench.cli.catalog import PRESETS, SHELVES, entries

    chosen = [shelf] if shelf else [*SHELVES, *PRESETS]
    if format_ == "md":
        from privbench.cli.reference import page

        typer.echo("\n".join(page(name) for name in chosen), nl=False)
        return
    screen = console()
    for name in chosen:
        found = entries(name)
        table = Table(title=name, title_justify="left", box=box.SIMPLE_HEAD, show_header=False)
        table.add_column(no_wrap=True, style="bold")
        table.add_column()
        for entry in found:
            needs = f" Needs: {entry.needs}." if entry.needs else ""
            table.add_row(entry.name, entry.summary + needs)
        screen.print(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Any name that `privbench list` prints.")],
) -> None:
    """Show what a name stands for: source, settings, defaults."""
    from privbench.cli.catalog import find_all
    from privbench.cli.show import sheet

    screen = console()
    for entry in find_all(name):
        screen.print(sheet(entry))


@app.command()
def leaderboard(
    out: Out = Path("results"),
) -> None:
    """Print the table of all records, and write it as CSV."""
    from privbench.records.store import Store, write
    from privbench.reports.leaderboard import leaderboard as tabulate
    from privbench.reports.leaderboard import to_csv

    store = Store(out)
    table = tabulate(_records(store))
    write(out / "leaderboard.csv", to_csv(table))
    screen = console()
    _print_board(screen, table)
    screen.print(f"Table: {out / 'leaderboard.csv'}", soft_wrap=True)


@app.command()
def rescore(
    out: Out = Path("results"),
    metric: Annotated[
        Names, typer.Option(help="Only these metrics. \\[default: all that are new or changed]")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder that holds the data set.", metavar="PATH")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Score stored answers by new or changed metrics; no attack runs."""
    screen = console()
    with screen.status("scoring"):
        from privbench.records.store import Store, write
        from privbench.reports.leaderboard import leaderboard as tabulate
        from privbench.reports.leaderboard import to_csv
        from privbench.running.environment import device as pick
        from privbench.running.rescore import rescore as score_again

        store = Store(out)
        _records(store)
        done = score_again(store, split_names(metric), data_root, pick(device))
    screen.print(f"{done.changed} records scored anew, {done.current} were up to date.")
    for reason, count in done.left.items():
        screen.print(f"Note. {count} left as they were: {reason}", highlight=False)
    write(out / "leaderboard.csv", to_csv(tabulate(store.records())))
    screen.print(f"Table of all results: {out / 'leaderboard.csv'}", soft_wrap=True)


@app.command()
def grid(
    out: Out = Path("results"),
    attack: Annotated[Names, typer.Option(help="Only these attacks.")] = None,
    model: Annotated[Names, typer.Option(help="Only these victims.")] = None,
    joined: Annotated[
        bool, typer.Option("--side-by-side", help="One picture for all victims.")
    ] = False,
) -> None:
    """Draw reconstruction grids from the records."""
    from privbench.errors import UnknownName
    from privbench.records.store import Store
    from privbench.reports.grid import save

    store = Store(out)
    records = _records(store)
    for chosen, what in ((attack, "attack"), (model, "model")):
        if not chosen:
            continue
        wanted = split_names(chosen)
        known = {getattr(r.case, what).name for r in records} | {
            getattr(r.case, what).label for r in records
        }
        for one in wanted:
            if one not in known:
                raise UnknownName(f"{what} with records", one, known)
        records = [
            r
            for r in records
            if {getattr(r.case, what).name, getattr(r.case, what).label} & set(wanted)
        ]
    screen = console()
    for path in save(records, store, joined=joined):
        screen.print(f"Grid: {path}", soft_wrap=True)


def _records(store: "Store") -> list["Record"]:
    """Return the records as tables show them; raises BadData where there is none."""
    from privbench.errors import BadData

    records, broken = store.survey()
    if broken:
        console(error=True).print(
            f"Note. {len(broken)} of the files under {store.folder / 'cases'} are torn or edited "
            f"and do not count, first {broken[0].name}. The same run computes them anew.",
            highlight=False,
            soft_wrap=True,
        )
    if not records:
        raise BadData(
            f"No records under {store.folder / 'cases'}. Run an attack first, such as "
            "`privbench run --attack pe_ls --model vit_vanilla`, or name another --out."
        )
    return store.shown(records)


def _print_board(screen: "Console", table: "pd.DataFrame") -> None:
    from privbench.cli.tables import board, notes

    screen.print(board(table))
    for note in notes(table):
        screen.print(f"Note. {note}", highlight=False)


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    try:
        app()
    except PrivbenchError as error:
        console(error=True).print(f"Error: {error}", style="red", highlight=False, soft_wrap=True)
        sys.exit(2)
    except SystemExit as end:
        if end.code == STOPPED:
            console(error=True).print("Stopped. The same command finishes what is missing.")
        raise
