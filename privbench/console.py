"""Tables and progress for a terminal; builds, never prints by itself."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from privbench.case import UNDEFENDED, Case, Record
from privbench.listener import Listener

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[Any, Any]
SHARED = ("weights", "defense", "dataset", "threat", "seed")
SCORES = (("ssim", "SSIM", 3), ("lpips", "LPIPS", 3))


def board(table: "pd.DataFrame") -> Table:
    """Leaderboard rows for a terminal; what all rows share stands in the title."""
    shared = [key for key in SHARED if len(set(table[key])) == 1]
    title = ", ".join(f"{key} {table[key].iloc[0]}" for key in shared)
    drawn = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    drawn.add_column("model", no_wrap=True)
    for key in SHARED:
        if key not in shared:
            drawn.add_column(key)
    drawn.add_column("attack")
    for heading in (
        "n",
        "PSNR, dB (95 %)",
        "floor",
        "control",
        "matched",
        "fed",
        "SSIM",
        "LPIPS",
        "s",
    ):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for row in table.to_dict("records"):
        others = [str(row[key]) for key in SHARED if key not in shared]
        drawn.add_row(row["model"], *others, row["attack"], *_figures(row))
    return drawn


def _figures(row: Row) -> list[str]:
    count = str(row["n"])
    if lost := row["failed"]:
        count += f" (+{lost} failed)"
    if row["refused"]:
        return [f"0 (+{row['refused']} refused)", *[""] * 8]
    interval = _number(row, "psnr", 1)
    if _number(row, "psnr_lo", 1):
        interval += f" ({_number(row, 'psnr_lo', 1)} to {_number(row, 'psnr_hi', 1)})"
    return [
        count,
        interval,
        *(_number(row, f"psnr_{name}", 1) for name in ("floor", "control", "matched", "fed")),
        *(_number(row, name, digits) for name, _, digits in SCORES),
        _number(row, "seconds", 2),
    ]


def _number(row: Row, key: str, digits: int) -> str:
    value = row.get(key)
    return "" if value is None or value != value else f"{value:.{digits}f}"


def notes(table: "pd.DataFrame") -> list[str]:
    """Sentences that a reader of the table must see, each with the rows that it concerns."""
    found: dict[str, list[str]] = {}
    for row in table.to_dict("records"):
        where = f"{row['attack']} on {row['model']}"
        for note in str(row["notes"] or "").split(" | "):
            if note:
                found.setdefault(note, []).append(where)
        control = row.get("psnr_control")
        if row["n"] and (control is None or control != control):
            found.setdefault(
                "No undefended control in these results: whether the attack works at all is "
                "unknown. Add the control to --model.",
                [],
            ).append(where)
    return [f"{', '.join(rows)}: {note}" for note, rows in found.items()]


class Watch(Listener):
    """Progress bars on a terminal; elsewhere a line for each case that ends."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.cases = self.bars.add_task("cases", total=None)
        self.steps = self.bars.add_task("", total=None, visible=False)

    def __enter__(self) -> "Watch":
        """Start drawing."""
        self.bars.start()
        return self

    def __exit__(self, *reason: object) -> None:
        """Stop drawing."""
        self.bars.stop()

    def planned(self, cases: int, kept: int) -> None:
        """Set the length of the bar."""
        self.bars.update(self.cases, total=cases, completed=kept)
        if kept:
            self.console.print(f"{kept} of {cases} cases are on record already.")

    def begins(self, case: Case) -> None:
        """Name the case in flight."""
        self.bars.reset(self.steps, description=_name(case), visible=True, total=None)

    def ticks(self, done: int, steps: int, objective: float) -> None:
        """Move the lower bar."""
        self.bars.update(self.steps, completed=done, total=steps)

    def ends(self, record: Record) -> None:
        """Move the upper bar."""
        self.bars.advance(self.cases)
        if not self.console.is_terminal:
            self.console.print(f"{_name(record.case)}: {_outcome(record)}", highlight=False)


def _name(case: Case) -> str:
    images = ",".join(map(str, case.images))
    defense = f" with {case.defended}" if case.defended != UNDEFENDED else ""
    return f"{case.attack.label} on {case.model.label}{defense}, image {images}"


def _outcome(record: Record) -> str:
    if record.error:
        return f"{record.status}: {record.error}"
    decibels = ", ".join(f"{value:.1f} dB" for value in record.scores["psnr"])
    return f"{decibels} in {record.seconds:.1f} s"
