"""What the commands print that compute something of victims under defenses: a table, and notes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

NAMES = ("model", "weights", "defense")
"""Columns that say what a row is of."""


def sheet(
    title: str, headings: Sequence[str], rows: Iterable[tuple[Mapping[Any, Any], Sequence[str]]]
) -> "Table":
    """Return a table; each row has names, by column, and what stands below the headings."""
    from rich import box
    from rich.table import Table

    drawn = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for name in NAMES:
        drawn.add_column(name, overflow="fold", min_width=8)
    for heading in headings:
        drawn.add_column(heading, justify="right", no_wrap=True)
    for named, figures in rows:
        drawn.add_row(*(str(named[name]) for name in NAMES), *figures)
    return drawn


def print_notes(screen: "Console", notes: Iterable[str]) -> None:
    """Print notes, each once."""
    for note in dict.fromkeys(notes):
        screen.print(f"Note. {note}", highlight=False, soft_wrap=True)
