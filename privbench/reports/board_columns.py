"""Columns of the leaderboard in the order in which a reader asks, and their cells as text."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from privbench.records.case import UNDEFENDED
from privbench.reports.board import Section

Row = Mapping[str, Any]

MORE = "more"
"""Group of columns that nothing here knows: figures that other commands derived."""


@dataclass(frozen=True)
class Column:
    """One column: its name in files, its heading for readers, and how its cell is written."""

    name: str
    heading: str
    meaning: str
    digits: int = 1
    interval: bool = False
    """Whether the 95 % interval stands in the same cell."""
    write: Callable[[Row], str] | None = field(default=None, compare=False)
    """For what is no number."""

    @property
    def text(self) -> bool:
        """Whether it is read from the left."""
        return self.write is not None and self.name not in ("rank", "n")

    def cell(self, row: Row) -> str:
        """Return the cell's text; empty where nothing was measured."""
        if self.write is not None:
            return self.write(row)
        value = row.get(self.name)
        if value is None or value != value:
            return ""
        text = f"{value:.{self.digits}f}"
        ends = [row.get(f"{self.name}{end}") for end in ("_lo", "_hi")]
        if not self.interval or any(end is None or end != end for end in ends):
            return text
        return f"{text} ({' to '.join(f'{end:.{self.digits}f}' for end in ends)})"

    def number(self, row: Row) -> float | None:
        """Return what a reader would sort the column by, None for text or nothing."""
        if self.name == "rank":
            return float(row["rank"].first) if row.get("rank") else None
        value = row.get(self.name)
        known = isinstance(value, int | float) and value == value
        return float(value) if known else None  # type: ignore[arg-type]


def _victim(row: Row) -> str:
    defended = row["defense"] != UNDEFENDED
    return f"{row['model']} + {row['defense']}" if defended else str(row["model"])


def _count(row: Row) -> str:
    lost = row["failed"] + row["refused"]
    return f"{row['n']} of {row['n'] + lost}" if lost else str(row["n"])


def _rank(row: Row) -> str:
    return str(row["rank"]) if row.get("rank") else ""


def _text(name: str) -> Callable[[Row], str]:
    return lambda row: str(row.get(name) or "")


RANK = Column(
    "rank",
    "rank",
    "1 leaks most; rows that no paired test tells apart on the same pictures share places "
    "(sign flips, Holm over the section)",
    write=_rank,
)
VICTIM = Column("victim", "victim", "the model, and what changes its update", write=_victim)
ATTACK = Column("attack", "attack", "whose answers are scored", write=_text("attack"))
COUNT = Column("n", "n", "pictures scored, of how many where some failed", write=_count)
LEAK = Column(
    "psnr",
    "PSNR, dB (95 %)",
    "attacker-selected leak in place; higher leaks more, 100 is exact",
    interval=True,
)
ORACLE = Column(
    "psnr_oracle",
    "oracle-worst",
    "mean of each picture's best answer, chosen with the truth: nobody can select it",
)
ACCURACY = Column("top1", "top-1, %", "clean accuracy of these weights")
FLAGS = Column("flags", "flags", "what forbids to take the row for evidence", write=_text("flags"))

FLOOR = Column("psnr_floor", "floor", "PSNR of a flat picture in the mean color, dB")
CONTROL = Column("psnr_control", "control", "PSNR of the undefended victim, same attack, dB")

FIRST = (RANK, VICTIM, ATTACK, COUNT, LEAK, ORACLE, ACCURACY, FLAGS)

LEAKAGE = (
    RANK,
    ORACLE,
    Column("psnr_p95", "worst 5 %", "PSNR that the leakiest 5 % of pictures exceed, dB"),
    Column(
        "psnr_matched",
        "matched",
        "PSNR after the best matching of patches, dB: content without order",
        interval=True,
    ),
    FLOOR,
    CONTROL,
    Column("lost", "control minus row", "paired difference of PSNR, dB", interval=True),
    Column("lost_p", "p (Holm)", "of that difference, by sign flips", digits=4),
    Column("exact", "exact, %", "pictures whose every pixel came back, by the truth"),
    Column(
        "proved",
        "proved, %",
        "pictures whose network input the attack proved without the truth; not the order of "
        "patches, nor what a defense changed before",
    ),
    Column("ssim", "SSIM", "structural similarity, higher leaks more", digits=3),
    Column("lpips", "LPIPS", "perceptual distance, lower leaks more", digits=3),
)
COST = (
    Column("gradient_calls", "gradients", "gradient evaluations per picture", digits=0),
    Column("seconds", "s", "seconds of the attack per picture", digits=2),
    Column("version", "version", "of the attack", digits=0),
    Column("weights_sha256", "weights", "sha256 of all weights", write=_text("weights_sha256")),
)
UTILITY = {
    "top1": ("top-1, %", ACCURACY.meaning),
    "agreement": ("consistency, %", "pictures with the same answer when patches are shuffled"),
    "*_mCE_*": ("mCE", "error under corruption, relative to the model named, in percent"),
    "*_mean_error": ("mean error, %", "over 15 corruptions in 5 severities each"),
    "*_aupr": ("AUPR, %", "unknown classes told from known ones"),
    "*_top1": ("top-1, %", "on pictures of another kind"),
}
"""Heading and meaning by the figure's name; a pattern's heading is the name itself."""


DERIVED = (
    Column(
        "ceiling",
        "ceiling, dB",
        "the best PSNR that any attack could expect of one picture in one plain step",
        interval=True,
    ),
    Column(
        "price_points",
        "price, points",
        "points of top-1 that a training with this defense loses, as long a one as price form says",
        interval=True,
    ),
)
"""Figures that other commands derive, and a reader asks for beside the leak."""
FORM = Column(
    "price_form",
    "price form",
    "of the training that the price is of: full, 1170 steps, or short, 20",
    write=_text("price_form"),
)
MOST = 8
"""Columns that are shown unless a reader asks for all."""
LADDER = (RANK, VICTIM, ATTACK, COUNT, FLOOR, LEAK, ORACLE, *DERIVED, CONTROL, ACCURACY, FLAGS)
"""Beside a ceiling or a price: from what needs no update to what no attack exceeds."""
ROOM = (CONTROL, ACCURACY, ORACLE, RANK)
"""Of these, those that leave a first look until the others have room, in this order."""


def first(sections: Sequence[Section]) -> list[Column]:
    """Return the columns of a first look; where there is a ceiling or a price, beside the floor."""
    kept = _ladder(sections)
    for one in ROOM[: len(kept) - MOST]:
        kept.remove(one)
    return kept


def _ladder(sections: Sequence[Section]) -> list[Column]:
    """Return the first columns, and what belongs between them where somebody derived figures."""
    rows = [row for section in sections for row in section.rows]
    derived = [one for one in DERIVED if any(one.cell(row) for row in rows)]
    if not derived:
        return list(FIRST)
    return [one for one in LADDER if one not in DERIVED or one in derived]


def groups(sections: Iterable[Section]) -> dict[str, list[Column]]:
    """Return columns beyond the first by group, those that any row has a cell in."""
    rows = [row for section in sections for row in section.rows]
    known = {column.name for column in (*FIRST, *LEAKAGE, *COST)}
    names = dict.fromkeys(name for row in rows for name in row if f"{name}_lo" in row)
    utility = [
        _utility(name)
        for name in sorted(names, key=lambda name: (name not in UTILITY, name))
        if _pattern(name)
    ]
    known_derived = {column.name: column for column in (*DERIVED, FORM)}
    derived = [
        known_derived.get(name)
        or Column(name, name.replace("_", " "), "derived by another command", interval=True)
        for name in sorted({name for row in rows for name in row.get("joined", ())})
        if name not in known and not name.endswith(("_lo", "_hi"))
    ]
    found = {"leakage": [*LEAKAGE], "utility": utility, MORE: derived, "cost": [*COST]}
    return {
        name: kept
        for name, columns in found.items()
        if (kept := [one for one in columns if any(one.cell(row) for row in rows)])
    }


def _pattern(name: str) -> str:
    return next((pattern for pattern in UTILITY if fnmatchcase(name, pattern)), "")


def _utility(name: str) -> Column:
    pattern = _pattern(name)
    heading, meaning = UTILITY[pattern]
    if pattern != name:
        heading = name.replace("_", " ") + (", %" if heading.endswith("%") else "")
    return Column(name, heading, meaning, interval=True)


def shown(sections: Sequence[Section], everything: bool) -> list[Column]:
    """Return the columns of a first look, or all that any row has a cell in, each once."""
    if not everything:
        return first(sections)
    found = {column.name: column for column in _ladder(sections)}
    for some in groups(sections).values():
        found |= {column.name: column for column in some}  # accuracy then has its interval, too
    return list(found.values())
