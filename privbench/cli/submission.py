"""The command line's door for records of others: check and merge."""

import json
from pathlib import Path
from typing import Annotated

import typer

from privbench.cli.options import FAILED, console


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (check, merge):
        app.command()(command)


def check(
    paths: Annotated[
        list[Path], typer.Argument(help="Records, or folders of them.", metavar="FILE_OR_FOLDER...")
    ],
    suite: Annotated[
        str | None,
        typer.Option(help="A suite of which no case may be missing.", metavar="FILE"),
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(help="Folder of the data set that they are of.", metavar="PATH"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Validate records that somebody else made, a line for each fault; no attack runs.

    Exit code 0 without faults, 1 with some, 2 where there is nothing to look at.
    """
    with console(error=True).status("looking"):
        from privbench.running.suite import Suite
        from privbench.submission.check import check as look

        asked = Suite.build({"data_root": data_root}, suite) if suite else None
        found = look(paths, asked, data_root)
    if as_json:
        typer.echo(json.dumps(found.content(), indent=1))
    else:
        screen = console()
        for one in found.faults:
            screen.print(f"{one.place}: {one.sentence}", highlight=False, soft_wrap=True)
        count = len(found.faults)
        screen.print(
            f"{found.records} sound records, {count or 'no'} fault{'' if count == 1 else 's'}.",
            highlight=False,
        )
        if found.unseen:
            screen.print(
                f"Note. {found.unseen} of them are of a folder of pictures that was not named, and "
                "their scores were not made again: add --data-root.",
                soft_wrap=True,
            )
        if found.unbuilt:
            screen.print(
                f"Note. {found.unbuilt} of them are of weights that do not come along, and their "
                "digests were not made again.",
                soft_wrap=True,
            )
    if found.faults:
        raise typer.Exit(FAILED)


def merge(
    folders: Annotated[list[Path], typer.Argument(help="Results folders.", metavar="FOLDER...")],
    out: Annotated[
        Path | None,
        typer.Option(help="Where to. \\[default: into the first of them]", metavar="DIR"),
    ] = None,
) -> None:
    """Bring the records of several folders into one, with answers, pictures and the table.

    A second call changes nothing. Exit code 2, and nothing written, where two folders hold
    different results of one case.
    """
    with console(error=True).status("merging"):
        from privbench.reports.leaderboard import TABLE
        from privbench.submission.merge import merge as bring_together

        target = out or folders[0]
        found = bring_together(folders, target)
    screen, count = console(), found.taken + found.there
    screen.print(
        f"{count} records: {found.taken} taken over, {found.there} were there.", highlight=False
    )
    notes = [
        (found.again, "cases were run in several folders with one result; the first's stays."),
        (found.bare, "records lack their stored answers, and cannot be scored again."),
        (len(found.broken), "files are torn or edited, and were left behind."),
    ]
    for number, words in notes:
        if number:
            screen.print(f"Note. {number} {words}", highlight=False)
    if (target / TABLE).is_file():
        screen.print(f"Table of all results: {target / TABLE}", soft_wrap=True)
