"""The command line's leaderboard: leakage, utility and cost of all records in one table."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from privbench.cli.options import Names, Out, console, every_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from privbench.reports.board import Section
    from privbench.reports.board_columns import Column

LONG, SHORT = 16, 11
"""Letters from which on a label takes several lines, and where columns are many."""
PAGE = 100
"""Letters of a line of the first eight columns."""


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(leaderboard)


def leaderboard(
    out: Out = Path("results"),
    by: Annotated[
        Names,
        typer.Option(
            help="Columns that tell rows apart. Only leaving out attack (the strongest stands for "
            "all) or seed (the mean does) changes the rows, and model,defense leaves out both; all "
            "other columns tell them apart whether named or not. \\[default: all]"
        ),
    ] = None,
    format_: Annotated[
        Literal["text", "csv", "md", "latex", "html"],
        typer.Option("--format", help="What is printed."),
    ] = "text",
    everything: Annotated[
        bool, typer.Option("--all", help="All columns, not only the first eight.")
    ] = False,
) -> None:
    """Print what leaks, what it costs and how sure that is, of all records.

    Also writes leaderboard.csv, a row for each attack.
    """
    from privbench.cli.records import records_of
    from privbench.records.store import Store
    from privbench.records.utility import UtilityStore
    from privbench.reports.board import board
    from privbench.reports.board_columns import shown
    from privbench.reports.formats import FORMATS
    from privbench.reports.joined import joined
    from privbench.reports.leaderboard import leaderboard as tabulate
    from privbench.reports.leaderboard import write_table

    records = records_of(Store(out))
    utility = UtilityStore(out).records()
    table = tabulate(records)
    # a name given twice is refused, not dropped
    sections = board(records, utility, joined(out), every_name(by) or None)
    place = write_table(out, table)
    if format_ != "text":
        columns = shown(sections, everything or format_ == "csv")
        typer.echo(FORMATS[format_](sections, columns), nl=False)
        return
    from privbench.cli.tables import notes
    from privbench.reports.formats import raised

    screen = console()
    for section in sections:
        for part in _parts(section, shown(sections, everything), shown(sections, False)):
            screen.print(part, width=min(screen.width, PAGE))
    for name, what in raised(sections):
        screen.print(f"{name}: {what}.", highlight=False)
    for note in notes(table):
        screen.print(f"Note. {note}", highlight=False)
    screen.print(f"Table: {place}", soft_wrap=True)


def _parts(
    section: "Section", columns: "Sequence[Column]", heads: "Sequence[Column]"
) -> "list[Table]":
    """Return a table of the first columns, and of the others as many as are needed."""
    from privbench.reports.board_columns import ATTACK, MOST, RANK, VICTIM

    found = {one.name: one for one in columns}
    first = [found[one.name] for one in heads if one.name in found]
    named = [RANK, VICTIM, ATTACK]
    rest = [one for one in columns if one not in (*first, *named)]
    size = MOST - len(named)
    tables = [_table(section, first, whole=len(first) == len(columns))]
    for start in range(0, len(rest), size):
        tables.append(_table(section, [*named, *rest[start : start + size]]))
    return tables


def _table(section: "Section", columns: "Sequence[Column]", *, whole: bool = False) -> "Table":
    """Return a table; where the columns are few enough, numbers stay on one line.

    Several intervals stand below their means instead, and labels and columns closer together.
    """
    from rich import box
    from rich.table import Table

    below = sum(column.interval for column in columns) > 1
    longest = SHORT if below else LONG

    def text(column: "Column", cell: str) -> str:
        if column.text:
            return _broken(cell, longest)
        return cell.replace(" (", "\n(") if below and column.interval else cell

    drawn = Table(
        title=section.title,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
        collapse_padding=True,
        padding=(0, 0) if below else (0, 1),
    )
    for column in columns:
        # flags break between their words, a label only where its parts meet
        parts = re.compile(r"\s" if below and column.name == "flags" else r"\n")
        pieces = [
            one for row in section.rows for one in parts.split(text(column, column.cell(row)))
        ]
        drawn.add_column(
            text(column, column.heading.replace("-w", "-\nw")),
            min_width=min(LONG, max(map(len, pieces))) if column.text and whole else None,
            justify="left" if column.text else "right",
            overflow="fold",
            no_wrap=not column.text and (whole or not column.interval),
        )
    for row in section.rows:
        drawn.add_row(*(text(column, column.cell(row)) for column in columns))
    return drawn


def _broken(label: str, longest: int) -> str:
    """Break a long label where its parts meet: model, defense, settings."""
    return re.sub(r" (?=\+ )|(?=\()", "\n", label) if len(label) > longest else label
