"""The command line's door for records of others: check and merge."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privbench.cli.options import FAILED, console, place
from privbench.cli.records import name_broken

if TYPE_CHECKING:
    from rich.console import Console

    from privbench.submission.faults import Findings

LONG = 120
"""Letters of an error that a note quotes."""
LOST = {
    "failed": "A failed case is a part of its row, whose mean is of the others, and must be "
    "explained; the same run with --retry-failed tries it again.",
    "refused": "No attack ran there, and a row's mean is of its other cases; the same run asks "
    "again.",
}
"""What a note says of cases without a score."""


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (check, merge):
        app.command()(command)


def check(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Records, or folders of them.", metavar="FILE_OR_FOLDER...", parser=place
        ),
    ],
    suite: Annotated[
        str | None,
        typer.Option(help="A suite of which no case may be missing.", metavar="FILE"),
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(help="Folder of the data set that they are of.", metavar="PATH", parser=place),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Each single fault, for programs.")
    ] = False,
) -> None:
    """Validate records that somebody else made, a line for each sort of fault; no attack runs.

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
        _tell(console(), found)
    if found.faults:
        raise typer.Exit(FAILED)


def _tell(screen: "Console", found: "Findings") -> None:
    """Print the faults of a submission by their sort, and what is none and needs a look."""
    from privbench.submission.sorts import sorted_out

    def tell(text: str) -> None:
        screen.print(text, highlight=False, soft_wrap=True)

    for group in sorted_out(found.faults):
        tell(str(group))
    if count := len(found.faults):
        of = f"{found.records:,} record{'' if found.records == 1 else 's'}, {found.sound:,} of them"
        tell(f"{of} sound; {count:,} fault{'' if count == 1 else 's'}.")
    else:
        tell(f"{found.records:,} sound record{'' if found.records == 1 else 's'}, no faults.")
    for status, what in LOST.items():
        if lost := [one for one in found.lost if one.status == status]:
            cases = f"{len(lost):,} case{'' if len(lost) == 1 else 's'}"
            first = "; ".join(f"{one.place}: {one.error[:LONG]}" for one in lost[:2])
            was = status if status == "failed" else f"w{'as' if len(lost) == 1 else 'ere'} {status}"
            tell(f"Note. {cases} {was}, first {first}. {what}")
    if found.unseen:
        tell(
            f"Note. {found.unseen:,} of them {'is' if found.unseen == 1 else 'are'} of a folder of "
            "pictures that was not named, and their scores were not made again: add --data-root."
        )
    if found.unbuilt:
        tell(
            f"Note. {found.unbuilt:,} of them {'is' if found.unbuilt == 1 else 'are'} of weights "
            "that do not come along, and their digests were not made again."
        )


def merge(
    folders: Annotated[
        list[Path], typer.Argument(help="Results folders.", metavar="FOLDER...", parser=place)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to. \\[default: into the first of them]", metavar="DIR", parser=place
        ),
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
    for number, one, many in (
        (
            found.again,
            "case was run in several folders with one result; the first's stays.",
            "cases were run in several folders with one result; the first's stays.",
        ),
        (
            found.bare,
            "record lacks its stored answers, and cannot be scored again.",
            "records lack their stored answers, and cannot be scored again.",
        ),
    ):
        if number:
            screen.print(f"Note. {number} {one if number == 1 else many}", highlight=False)
    if found.broken:
        one = len(found.broken) == 1
        what = "file is no record, and was" if one else "files are no records, and were"
        name_broken(screen, f"Note. {len(found.broken)} {what} left behind:", found.broken)
    if (target / TABLE).is_file():
        screen.print(f"Table of all results: {target / TABLE}", soft_wrap=True)
