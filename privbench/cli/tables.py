"""Tables and progress for a terminal."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from privbench.records.case import UNDEFENDED, Case, Record
from privbench.running.listener import Listener

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[Any, Any]
SHARED = ("weights", "defense", "dataset", "threat", "seed", "suite")
FIGURES = (
    ("oracle", "psnr_oracle", 1),
    ("floor", "psnr_floor", 1),
    ("control", "psnr_control", 1),
    ("placed", "placed", 2),
    ("matched", "psnr_matched", 1),
    ("fed", "psnr_fed", 1),
    ("SSIM", "ssim", 3),
    ("LPIPS", "lpips", 3),
    ("s", "seconds", 2),
)
MOST_NAMED = 3
PLAIN = ("feature_distance", "kl")
"""Columns of the utility table that are no shares."""
COMPONENTS = (3, 5, 7, 10)
READ = ("absolute_2d", "relative_2d")
"""Columns of a position study that a terminal shows."""
SHORT = {"agreement_when_right": "if right", "feature_distance": "distance"}
NO_CONTROL = (
    "No undefended control among these results, so whether the attack works at all is unknown. "
    "Add the control to --model, and none to --defense."
)


def board(table: "pd.DataFrame") -> Table:
    """Leaderboard rows for a terminal; what all rows share stands in the title."""
    rows: list[Row] = table.to_dict("records")  # type: ignore[assignment]
    known = [key for key in SHARED if key in table.columns]
    shared = [key for key in known if len(set(table[key])) == 1]
    labels = ["model", *(key for key in known if key not in shared), "attack"]
    figures = [figure for figure in FIGURES if any(_number(row, *figure[1:]) for row in rows)]
    drawn = Table(
        title=", ".join(f"{key} {rows[0][key]}" for key in shared),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
    )
    for heading in labels:
        drawn.add_column(heading, overflow="fold", min_width=max(8, len(heading)))
    for heading in ("n", "PSNR, dB (95 %)", *(heading for heading, _, _ in figures)):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        scores = [_number(row, key, digits) for _, key, digits in figures]
        drawn.add_row(*(str(row[key]) for key in labels), _count(row), _interval(row), *scores)
    return drawn


def _count(row: Row) -> str:
    lost = row["failed"] + row["refused"]
    return f"{row['n']} of {row['n'] + lost}" if lost else str(row["n"])


def _interval(row: Row) -> str:
    if not row["n"]:
        return "refused" if row["refused"] else "failed"
    mean, low, high = (_number(row, f"psnr{end}", 1) for end in ("", "_lo", "_hi"))
    return f"{mean} ({low} to {high})" if low else mean


def _number(row: Row, key: str, digits: int) -> str:
    value = row.get(key)
    return "" if value is None or value != value else f"{value:.{digits}f}"


def notes(table: "pd.DataFrame") -> list[str]:
    """Sentences that a reader of the table must see, each with the rows that it concerns."""
    found: dict[str, list[str]] = {}
    for row in table.to_dict("records"):
        defense = f" with {row['defense']}" if row["defense"] != UNDEFENDED else ""
        where = f"{row['attack']} on {row['model']}{defense}"
        for note in str(row["notes"] or "").split(" | "):
            if note:
                found.setdefault(note, []).append(where)
        control = row.get("psnr_control")
        if row["n"] and (control is None or control != control):
            found.setdefault(NO_CONTROL, []).append(where)
    return [f"{_several(rows)}: {note}" for note, rows in found.items()]


def _several(rows: list[str]) -> str:
    named = list(dict.fromkeys(rows))
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    return ", ".join(named[:MOST_NAMED]) + more


class Watch(Listener):
    """Progress bars on a terminal; elsewhere a line for each case that ends."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.cases = self.bars.add_task("cases", total=None)
        self.flying: dict[str, TaskID] = {}

    def planned(self, cases: int, kept: int) -> None:
        """Set the length of the bar."""
        self.bars.update(self.cases, total=cases, completed=kept)
        if kept:
            self.console.print(f"{kept} of {cases} cases are on record already.")

    def begins(self, case: Case) -> None:
        """Draw a bar for the case."""
        self.flying[case.key] = self.bars.add_task(_name(case), total=None)

    def ticks(self, case: Case, done: int, steps: int, objective: float) -> None:
        """Move the case's bar."""
        self.bars.update(self.flying[case.key], completed=done, total=steps)

    def ends(self, record: Record) -> None:
        """Move the upper bar, remove the case's own."""
        self.bars.advance(self.cases)
        if (bar := self.flying.pop(record.case.key, None)) is not None:
            self.bars.remove_task(bar)
        if not self.console.is_terminal:
            self.console.print(f"{_name(record.case)}: {_outcome(record)}", highlight=False)


class Ascent:
    """A training's progress: a bar on a terminal, elsewhere a line whenever a percent is done."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.percent = -1
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("training", total=None)

    def report(self, done: int, steps: int, loss: float, accuracy: float) -> None:
        """Show how far the training is, and how well it goes."""
        text = f"loss {loss:.3f}"
        if accuracy == accuracy:  # NaN before it was measured
            text += f", test accuracy {100 * accuracy:.2f} % at the end of the last whole epoch"
        self.bar.update(self.task, completed=done, total=steps, description=text)
        if not self.console.is_terminal and (percent := 100 * done // steps) > self.percent:
            self.percent = percent
            self.console.print(f"{percent} %: step {done} of {steps}, {text}", highlight=False)


class Passes:
    """Progress of passes over many pictures: a bar on a terminal, elsewhere a line for each."""

    def __init__(self, console: Console, unit: str = "pictures") -> None:
        self.console, self.unit = console, unit
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.task = self.bar.add_task(f"reading {unit}", total=None)

    def report(self, what: str, done: int, total: int) -> None:
        """Show how far the pass is."""
        self.bar.update(self.task, completed=done, total=total, description=what)
        if not self.console.is_terminal and done == total:
            self.console.print(f"{what}: {total} {self.unit}", highlight=False)


def utility_board(table: "pd.DataFrame") -> Table:
    """Accuracy in percent for a terminal; what all rows share stands in the title."""
    rows: list[Row] = table.to_dict("records")  # type: ignore[assignment]
    shared = [key for key in ("weights", "dataset", "n", "seed") if len(set(table[key])) == 1]
    labels = ["model", *(key for key in ("weights", "dataset", "n", "seed") if key not in shared)]
    drawn = Table(
        title=", ".join([*(f"{key} {rows[0][key]}" for key in shared), "shares in percent"]),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
        collapse_padding=True,
    )
    for heading in labels:
        drawn.add_column(heading, overflow="fold", min_width=max(12, len(heading)))
    found = [str(name) for name in table.columns if f"{name}_lo" in table.columns]
    found = [name for name in found if not name.startswith("treated")]
    for name in found:
        heading = SHORT.get(name, name).replace("_", " ")
        drawn.add_column(heading, justify="right", no_wrap=name == "top1")
    for row in rows:
        scores = [_figure(row, name) for name in found]
        drawn.add_row(*(str(row[key]) for key in labels), *scores)
    return drawn


def robustness_board(table: "pd.DataFrame") -> Table:
    """Robustness for a terminal: means only, the CSV file has the rest."""
    drawn = Table(
        title="Robustness: shares and errors in percent; intervals are in the table",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
        collapse_padding=True,
    )
    found = [str(name) for name in table.columns if f"{name}_lo" in table.columns]
    found = [name for name in found if not name.endswith("_released")]
    for heading in ("model", "weights", "defense", "dataset"):
        drawn.add_column(heading, overflow="fold", min_width=8)
    for name in found:
        drawn.add_column(SHORT.get(name, name).replace("_", " "), justify="right")
    for row in table.to_dict("records"):
        percent = [name for name in found if name.endswith("_error") or "_mCE_" in name]
        scores = [
            _number(row, name, 1) if name in percent else _figure(row, name) for name in found
        ]
        facts = (str(row[key]) for key in ("model", "weights", "defense", "dataset"))
        drawn.add_row(*facts, *scores)
    return drawn


def comparison_board(table: "pd.DataFrame", first: str, second: str, *, by: str) -> Table:
    """Paired differences for a terminal, over pictures or trainings."""
    test = "Student's t" if by == "trainings" else "sign flips"
    drawn = Table(
        title=f"{first} minus {second}: 95 % intervals over {by}, p by {test}, Holm over the table",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
    )
    drawn.add_column("measure", overflow="fold")
    for heading in ("n", first, second, "difference", "interval", "p", "p (Holm)"):
        drawn.add_column(heading, justify="right")
    for row in table.to_dict("records"):
        means = (_number(row, key, 4) for key in ("first", "second", "difference"))
        interval = f"{_number(row, 'lo', 4)} to {_number(row, 'hi', 4)}"
        ps = (_number(row, key, 4) for key in ("p", "p_holm"))
        drawn.add_row(str(row["measure"]), f"{row['n']:,}", *means, interval, *ps)
    return drawn


def positions_board(table: "pd.DataFrame") -> Table:
    """Study of position tables for a terminal; the CSV file has the rest."""
    drawn = Table(
        title="Explained variance in percent (paper's in brackets); mean errors in patches",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
    )
    for heading in ("table", "weights", "n x d"):
        drawn.add_column(heading, overflow="fold")
    headings = [*(f"{k} PCs" for k in COMPONENTS), *(task.replace("_", " ") for task in READ)]
    for heading in [*headings, "guess"]:
        drawn.add_column(heading, justify="right", no_wrap=True)
    for row in table.to_dict("records"):
        shares = [_number(row, f"pca_{k}", 1) for k in COMPONENTS]
        paper = [_number(row, f"paper_says_pca_{k}", 1) for k in COMPONENTS]
        both = [f"{a} ({b})" if b else a for a, b in zip(shares, paper, strict=True)]
        errors = [_with_interval(row, f"mae_{task}") for task in READ]
        named = (str(row["model"]), str(row["weights"]), f"{row['n']} x {row['d']}")
        drawn.add_row(*named, *both, *errors, _number(row, "mae_absolute_2d_floor", 2))
    return drawn


def _with_interval(row: Row, name: str) -> str:
    mean, low, high = (_number(row, f"{name}{end}", 2) for end in ("", "_lo", "_hi"))
    return f"{mean} ({low} to {high})" if low else mean


def _figure(row: Row, name: str) -> str:
    """Mean of a column; of the first one also the interval."""
    scale, digits = (1, 2) if name.startswith(PLAIN) else (100, 1)
    scaled = {key: scale * row[key] for key in (name, f"{name}_lo", f"{name}_hi")}
    mean, low, high = (_number(scaled, key, digits) for key in scaled)
    return f"{mean} ({low} to {high})" if name == "top1" and low else mean


def _name(case: Case) -> str:
    images = ",".join(map(str, case.images))
    defense = f" with {case.defended}" if case.defended != UNDEFENDED else ""
    return f"{case.attack.label} on {case.model.label}{defense}, image {images}"


def _outcome(record: Record) -> str:
    if record.error:
        return f"{record.status}: {record.error}"
    decibels = ", ".join(f"{v:.1f} dB" for v in record.scores["psnr"] if v is not None)
    return f"{decibels} in {record.seconds:.1f} s"
