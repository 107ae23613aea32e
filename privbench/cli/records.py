"""The command line's reports: what is made of records that are there."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privbench.cli.options import FAILED, DataRoot, Device, Names, Out, console, split_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from rich.console import Console

    from privbench.records.case import Record
    from privbench.records.store import Store

MOST_NAMED = 5
"""Files that are no records and are named; a count stands for the others."""


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (rescore, grid):
        app.command()(command)


def rescore(
    out: Out = Path("results"),
    metric: Annotated[
        Names, typer.Option(help="Only these metrics. \\[default: all that are new or changed]")
    ] = None,
    data_root: DataRoot = None,
    device: Device = "auto",
) -> None:
    """Score stored answers by new or changed metrics; no attack runs."""
    screen = console()
    with screen.status("scoring"):
        from privbench.errors import BadSetting
        from privbench.records.store import Store
        from privbench.reports.leaderboard import leaderboard as tabulate
        from privbench.reports.leaderboard import write_table
        from privbench.running.environment import device as pick
        from privbench.running.rescore import rescore as score_again

        store = Store(out)
        records = records_of(store)
        if data_root and not any("@" in record.case.dataset.label for record in records):
            raise BadSetting(
                "--data-root would change nothing: all these records are of pictures that come "
                "along. Leave it out."
            )
        done = score_again(store, split_names(metric), data_root, pick(device))
    screen.print(f"{done.changed} records scored anew, {done.current} were up to date.")
    for reason, count in done.left.items():
        screen.print(f"Note. {count} left as they were: {reason}", highlight=False)
    table = write_table(out, tabulate(store.records()))
    screen.print(f"Table of all results: {table}", soft_wrap=True)
    if done.left and not done.changed and not done.current:
        raise typer.Exit(FAILED)


def grid(
    out: Out = Path("results"),
    attack: Annotated[Names, typer.Option(help="Only these attacks.")] = None,
    model: Annotated[Names, typer.Option(help="Only these victims.")] = None,
    joined: Annotated[
        bool, typer.Option("--side-by-side", help="One picture for all victims.")
    ] = False,
    columns: Annotated[
        str | None,
        typer.Option(
            help="What columns compare, all else alike: model, defense, attack, batch, weights, "
            "seed, or a setting such as model.ratio. \\[default: all attacks on a victim]",
            metavar="NAME",
        ),
    ] = None,
    pick: Annotated[
        Names,
        typer.Option(
            help="Which pictures are rows: worst (leaks most), median, best. "
            "\\[default: the first 8]"
        ),
    ] = None,
) -> None:
    """Draw reconstruction grids: a row for each picture, a column for each answer."""
    from privbench.errors import BadSetting, UnknownName
    from privbench.records.store import Store
    from privbench.reports.grid import save, save_by

    if columns and joined:
        raise BadSetting(
            "--columns says what stands side by side, and --side-by-side says all victims. Leave "
            "one of them out."
        )
    store, picks = Store(out), split_names(pick)
    everything = records = records_of(store)
    for chosen, what in ((attack, "attack"), (model, "model")):
        if not chosen:
            continue
        wanted = split_names(chosen)
        known = {getattr(r.case, what).name for r in everything} | {
            getattr(r.case, what).label for r in everything
        }
        for one in wanted:
            if one not in known:
                raise UnknownName(f"{what} with records", one, known)
        records = [
            r
            for r in records
            if {getattr(r.case, what).name, getattr(r.case, what).label} & set(wanted)
        ]
    if not records:
        raise BadSetting(
            "No record is of both this attack and this victim. Run it with `privbench run`, or "
            "leave --attack or --model out."
        )
    screen = console()
    if columns:
        paths = save_by(records, store, columns.strip(), picks)
    else:
        paths = save(records, store, joined=joined, pick=picks)
    for path in paths:
        screen.print(f"Grid: {path}", soft_wrap=True)


def records_of(store: "Store") -> list["Record"]:
    """Return the records as tables show them; raises BadData where there is none."""
    from privbench.errors import BadData

    records, broken = store.survey()
    if broken:
        from privbench.submission.reading import why_none

        one = len(broken) == 1
        what = "file is no record and does" if one else "files are no records and do"
        name_broken(
            console(error=True),
            f"Note. {len(broken)} {what} not count; the same run computes what is missing anew:",
            {path: why_none(path, store.RECORD) for path in broken},
        )
    if not records:
        raise BadData(
            f"No records under {store.folder / 'cases'}. Run an attack first, such as "
            f"`privbench run --attack pe_ls --model vit_vanilla --out {store.folder}`, or name "
            "another --out."
        )
    return store.shown(records)


def name_broken(screen: "Console", head: str, broken: "Mapping[Path, str]") -> None:
    """Print files that are no records, each with its reason, up to a number of them."""
    lines = [f"  {path}: {reason}" for path, reason in list(broken.items())[:MOST_NAMED]]
    if (more := len(broken) - MOST_NAMED) > 0:
        lines.append(f"  and {more:,} more.")
    for line in (head, *lines):
        screen.print(line, highlight=False, soft_wrap=True)


def print_board(screen: "Console", table: "pd.DataFrame") -> None:
    """Print a leaderboard and its notes."""
    from privbench.cli.tables import board, notes

    screen.print(board(table))
    for note in notes(table):
        screen.print(f"Note. {note}", highlight=False)
