"""Records to one page of HTML: a pure function but for the pictures that it embeds."""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from privbench.records.case import Record
from privbench.records.store import Store
from privbench.reports.axes import svg
from privbench.reports.board import LEAK, Section
from privbench.reports.board_columns import VICTIM, Column, first, groups
from privbench.reports.formats import raised
from privbench.reports.page.finding import finding
from privbench.reports.page.gallery import gallery

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "privbench: what shared updates give away"
TOP = 100.0
"""Decibels at the right end of a row's bar."""
WIDE = 8.0
"""Inches of a figure from which on it has a line of its own."""
COMMANDS = (
    "privbench run --attack NAME --model VICTIM --images 24 --out results\n"
    "privbench report --out results"
)
WITHHELD = (
    "These pictures come from a folder, and this page may travel further than they should: "
    "privbench report --pictures shows them."
)


@dataclass(frozen=True)
class Card:
    """What a component says of itself."""

    name: str
    summary: str
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Sources:
    """What a page is made of."""

    records: Sequence[Record]
    utility: int
    """How many records of accuracy and robustness were joined."""
    sections: Sequence[Section]
    figures: "Mapping[str, Figure]"
    cards: Mapping[str, Sequence[Card]]
    """By the heading under which they stand."""
    matching: Collection[str]
    """Names of the attacks that match gradients."""


def page(sources: Sources, store: Store, *, pictures: bool = False) -> str:
    """Return the page; it loads nothing, and no text that came from a file is taken for markup.

    `pictures` also embeds pictures that came from a folder.
    """
    from jinja2 import Environment

    here = files("privbench.reports.page")
    script = here.joinpath("page.js").read_text(encoding="utf-8")
    main = sources.sections[0]
    columns, styles, names = _columns(sources.sections)
    exhibits = gallery(main, store, everything=pictures)
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        here.joinpath("index.html.j2").read_text(encoding="utf-8")
    )
    shown = [("finding", "Finding"), ("leaderboard", "Leaderboard")]
    shown += [("figures", "Figures")] if sources.figures else []
    withheld = WITHHELD if not exhibits and any(LEAK in row for row in main.rows) else ""
    shown += [("gallery", "Gallery")] if exhibits or withheld else []
    shown += [("cards", "Victims, attacks, defenses"), ("protocol", "Protocol")]
    return template.render(
        title=TITLE,
        style=here.joinpath("page.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=_hash(script),
        facts={
            "records": f"{len(sources.records):,}",
            "utility": f"{sources.utility:,}" if sources.utility else "",
            "digest": digest(sources.records),
        },
        parts=[*shown, ("add", "How to add a row")],
        finding=finding(main, sources.matching),
        sections=[
            {"title": one.title, "rows": [_cells(row, columns, styles) for row in one.rows]}
            for one in sources.sections
        ],
        columns=[
            {
                "heading": c.heading,
                "meaning": c.meaning,
                "style": styles[c.name],
                "group": " ".join(w for w in styles[c.name].split() if w.startswith("g")),
            }
            for c in columns
        ],
        groups=names,
        flags=raised(sources.sections),
        figures=[
            {
                "caption": _caption(figure),
                "svg": svg(figure, name),
                "wide": figure.get_figwidth() > WIDE,
            }
            for name, figure in sources.figures.items()
        ],
        exhibits=exhibits,
        withheld=withheld,
        cards=[(heading, some) for heading, some in sources.cards.items() if some],
        protocol=_protocol(sources),
        commands=COMMANDS,
    )


def digest(records: Sequence[Record]) -> str:
    """Return 16 digits that tell one set of records and scores from any other."""
    content = sorted(
        json.dumps([one.case.key, one.status, dict(one.scores)], sort_keys=True) for one in records
    )
    return hashlib.sha256("\n".join(content).encode()).hexdigest()[:16]


def _hash(script: str) -> str:
    """Return the only script that the page allows, as its policy names it."""
    found = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(found).decode()}"


def _columns(sections: Sequence[Section]) -> tuple[list[Column], dict[str, str], list[str]]:
    """Return columns, their classes by name, and the groups that are shown on demand."""
    shown = first(sections)
    found = {column.name: column for column in shown}
    styles = {column.name: "" if column.text else "number" for column in shown}
    styles[LEAK] += " wide"
    names = []
    for name, some in groups(sections).items():
        names += [name] if any(column.name not in styles for column in some) else []
        for column in some:
            group = "" if column.name in styles else f" g{len(names)}"
            styles.setdefault(column.name, f"{'' if column.text else 'number'}{group}")
            found[column.name] = column
    return list(found.values()), styles, names


def _cells(
    row: Mapping[str, Any], columns: Sequence[Column], styles: Mapping[str, str]
) -> list[dict[str, Any]]:
    return [
        {
            "text": column.cell(row),
            "style": styles[column.name],
            "label": column.heading,
            "sort": None if column.text else column.number(row),
            "head": column.name == VICTIM.name,
            "bar": _bar(row) if column.name == LEAK and LEAK in row else None,
        }
        for column in columns
    ]


def _bar(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Return mean, interval and floor in percent of the bar's length."""

    def place(value: float) -> float:
        return round(min(max(value, 0.0), TOP), 1)

    low, high = (place(row.get(f"{LEAK}{end}", row[LEAK])) for end in ("_lo", "_hi"))
    floor = row.get("psnr_floor")
    return {
        "mean": place(row[LEAK]),
        "low": low,
        "width": round(high - low, 1),
        "floor": None if floor is None else place(floor),
    }


def _caption(figure: "Figure") -> str:
    title = figure.get_suptitle() or figure.axes[0].get_title(loc="left")
    return " ".join(title.split())


def _protocol(sources: Sources) -> dict[str, Any]:
    headings = ("weights", "pictures", "threat model", "seed", "rows", "pictures a row")
    lines = []
    for one in sources.sections:
        counts = sorted({row["n"] for row in one.rows if row["n"]})
        span = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else "".join(map(str, counts))
        facts = [str(one.protocol.get(k, "")) for k in ("weights", "dataset", "threat", "seed")]
        lines.append([*facts, str(len(one.rows)), span])
    attacks = Counter(f"{r.case.attack.name} {r.case.attack.version}" for r in sources.records)
    metrics = {f"{n} {facts['version']}" for r in sources.records for n, facts in r.metrics.items()}
    tools: dict[str, set[str]] = {}
    for record in sources.records:
        for name, version in record.environment.items():
            tools.setdefault(name, set()).add(str(version))
    facts = [
        ("Attacks and their versions", ", ".join(sorted(attacks))),
        ("Metrics and their versions", ", ".join(sorted(metrics))),
        *((f"Run with {name}", ", ".join(sorted(some))) for name, some in sorted(tools.items())),
    ]
    return {"headings": headings, "lines": lines, "facts": facts}
