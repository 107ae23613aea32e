"""The command line: parse, call, print."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from privbench.cli import audit as cli_audit
from privbench.cli import board as cli_board
from privbench.cli import bound as cli_bound
from privbench.cli import claims as cli_claims
from privbench.cli import epsilon as cli_epsilon
from privbench.cli import price as cli_price
from privbench.cli import records as cli_records
from privbench.cli import report as cli_report
from privbench.cli import submission as cli_submission
from privbench.cli import utility as cli_utility
from privbench.cli import victims as cli_victims
from privbench.cli.forecast import foretell
from privbench.cli.options import (
    FAILED,
    Chosen,
    DataRoot,
    Device,
    Names,
    On,
    Out,
    Private,
    SuiteFile,
    Weights,
    console,
)
from privbench.errors import PrivbenchError

if TYPE_CHECKING:
    from privbench.records.case import Record

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
cli_audit.register(app)
cli_epsilon.register(app)
cli_bound.register(app)
cli_price.register(app)

STOPPED = 130
"""Exit code that typer makes of Ctrl-C."""


@app.command()
def run(
    attack: Annotated[
        Names, typer.Option(help="Attacks; repeat it, or separate by commas.")
    ] = None,
    model: Annotated[Names, typer.Option(help="Victims; all combinations are run.")] = None,
    defense: On = None,
    dataset: Private = None,
    data_root: DataRoot = None,
    images: Chosen = None,
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
    device: Device = "auto",
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Cases at once. \\[default: one a core if they are small]", metavar="N", min=1
        ),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="Where cases run: threads, processes of their own, or ray.")
    ] = "threads",
    address: Annotated[
        str | None,
        typer.Option(
            help="Of a Ray cluster. \\[default: one that is started here]", metavar="HOST:PORT"
        ),
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="One of N parts, such as 2/3.", metavar="I/N")
    ] = None,
    out: Out = Path("results"),
    suite: SuiteFile = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run failed cases again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would run, and its cost.")
    ] = False,
) -> None:
    """Attack victims, score what comes back, write records, table and grids.

    Exit code 0 where any case has a score, 1 where none has, 2 where nothing could run.
    """
    from privbench.running.shard import parse_shard

    if shard is not None:
        parse_shard(shard)  # before anything heavy is imported
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
    if dry_run:
        foretell(screen, chosen, out, device, shard, retry_failed=retry_failed)
        return
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
            address=address,
            shard=shard,
        )
    if not (records := outcome.records):
        screen.print(f"No case falls to part {shard}.")
        return
    with screen.status("drawing"):
        grids = save_all(records, store)
    cli_records.print_board(screen, tabulate(records, beside=outcome.known))
    screen.print(f"Table of all results: {out / 'leaderboard.csv'}", soft_wrap=True)
    for path in grids:
        screen.print(f"Grid: {path}", soft_wrap=True)
    _tell_lost(records)


def _tell_lost(records: list["Record"]) -> None:
    """Count what came to nothing; where that is all, the command has failed."""
    lost = [record for record in records if record.status != "done"]
    if not lost:
        return
    counts = [(word, sum(one.status == word for one in lost)) for word in ("failed", "refused")]
    words = " and ".join(f"{count} {word}" for word, count in counts if count)
    end = "." if len(lost) < len(records) else "; no case has a score."
    console(error=True).print(
        f"Note. Of {len(records)} cases {words}, first: {lost[0].error or 'no reason'}{end} "
        "The notes above say why, --retry-failed runs failed ones again.",
        highlight=False,
        soft_wrap=True,
    )
    if len(lost) == len(records):
        raise typer.Exit(FAILED)


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


cli_board.register(app)
cli_claims.register(app)
cli_records.register(app)
cli_report.register(app)
cli_submission.register(app)


def _refuse(error: PrivbenchError) -> NoReturn:
    console(error=True).print(f"Error: {error}", style="red", highlight=False, soft_wrap=True)
    sys.exit(2)


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    try:
        app()
    except PrivbenchError as error:
        _refuse(error)
    except OSError as error:  # a name too long, a disk that is full, a folder without permission
        if error.filename is None:
            raise
        _refuse(
            PrivbenchError(f"'{error.filename}' cannot be used: {error.strerror}. Name another.")
        )
    except SystemExit as end:
        if end.code == STOPPED:
            console(error=True).print("Stopped. The same command finishes what is missing.")
        raise
