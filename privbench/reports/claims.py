"""A paper's claims against tables: each test compares two figures, and no verdict is typed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf, isinf
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from privbench.component import complaint
from privbench.errors import BadData, BadSetting
from privbench.reports.leaderboard import LEAKS
from privbench.reports.ranks import LEVEL

DIGITS = 4
"""Significant digits of a figure."""


class Verdict(StrEnum):
    """What became of a test, or of a claim; in part, where its tests differ."""

    UPHELD = "upheld"
    REFUTED = "refuted"
    OPEN = "not testable here"
    UPHELD_PARTLY = "upheld in part"
    REFUTED_PARTLY = "refuted in part"


class Place(BaseModel):
    """A figure: a cell of a table, or a value that somebody printed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str = ""
    row: Mapping[str, str] = {}
    """Columns and what stands in them; the first row that fits counts."""
    column: str = ""
    value: float | None = None
    of: str = ""
    """Whose value it is."""
    paper: float | None = None
    """What the paper prints for the same."""


class Test(BaseModel):
    """Two figures, and how the first has to stand to the second."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: str
    expect: Literal["lower", "higher", "not lower", "not higher"]
    first: Place
    second: Place
    control: bool = False
    """Whether the second is of an attack that has to leak, or the test shows nothing."""
    single: bool = False
    """Whether ways of training are compared by one training each, however sure their figures are.
    """


class Claim(BaseModel):
    """What a paper says, and what would show it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    says: str
    tests: Sequence[Test] = ()
    command: str = ""
    remark: str = ""


class Paper(BaseModel):
    """A paper and its claims."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    sources: Sequence[str]
    claims: Sequence[Claim] = Field(min_length=1)


@dataclass(frozen=True)
class Figure:
    """A number with the ends of its interval: itself, if it is printed; infinite, if unknown."""

    value: float
    low: float
    high: float
    n: str = ""
    floor: float | None = None
    p: float | None = None
    """Of a paired test that it is 0, where its table has one."""

    @property
    def doubtful(self) -> bool:
        """Whether a paired test does not tell it from 0, however narrow its interval is."""
        return self.p is not None and not self.p <= LEVEL

    def __str__(self) -> str:
        """Return the number, its interval where it has one, its n and its p."""
        text = f"{self.value:.{DIGITS}g}"
        if isinf(self.low):
            return f"{text} (n = {self.n})" if self.n else text
        if (self.low, self.high) != (self.value, self.value) or self.n:
            text += f" ({self.low:.{DIGITS}g} to {self.high:.{DIGITS}g}"
            text += f", n = {self.n}" if self.n else ""
            text += ")" if self.p is None else f", p = {self.p:.{DIGITS}g})"
        return text


@dataclass(frozen=True)
class Result:
    """A test with its figures; None where a table has none."""

    test: Test
    first: Figure | None
    second: Figure | None
    verdict: Verdict


def read_paper(content: Mapping[str, Any], name: str) -> Paper:
    """Return a paper from its file; raises BadSetting."""
    try:
        return Paper.model_validate(content)
    except ValidationError as error:
        raise BadSetting(complaint(name, error)) from None


def judged(claim: Claim, out: Path) -> tuple[Verdict, list[Result]]:
    """Return the verdict on a claim and its tests, from the tables under a results folder.

    Where tests differ the claim is refuted in part if any is refuted, else upheld in part.
    """
    results = [_result(test, out) for test in claim.tests]
    found = {one.verdict for one in results} or {Verdict.OPEN}
    if len(found) == 1:
        return found.pop(), results
    partly = Verdict.REFUTED in found
    return (Verdict.REFUTED_PARTLY if partly else Verdict.UPHELD_PARTLY), results


def _result(test: Test, out: Path) -> Result:
    first, second = _figure(test.first, out), _figure(test.second, out)
    if first is None or second is None or test.single:
        return Result(test, first, second, Verdict.OPEN)
    fails = test.control and (second.floor is None or second.value < second.floor + LEAKS)
    unsure = fails or first.doubtful or second.doubtful
    verdict = Verdict.OPEN if unsure else _compared(test.expect, first, second)
    return Result(test, first, second, verdict)


def _compared(expect: str, first: Figure, second: Figure) -> Verdict:
    """Return a verdict only where the intervals leave no doubt; ends that meet are equal."""
    if expect.startswith("not "):
        opposite = _compared(expect.removeprefix("not "), first, second)
        swap = {Verdict.UPHELD: Verdict.REFUTED, Verdict.REFUTED: Verdict.UPHELD}
        return swap.get(opposite, Verdict.OPEN)
    low, high = (first, second) if expect == "lower" else (second, first)
    if low.high < high.low:
        return Verdict.UPHELD
    return Verdict.REFUTED if low.low >= high.high else Verdict.OPEN


def _figure(place: Place, out: Path) -> Figure | None:
    """Read a figure; the interval of a difference stands in columns `lo` and `hi`.

    A cell that is empty there, as of a single picture or training, decides nothing.
    """
    if place.value is not None:
        return Figure(place.value, place.value, place.value)
    try:
        table = pd.read_csv(out / place.table, dtype=str, keep_default_na=False)
    except (OSError, ValueError):
        return None
    for row in table.to_dict("records"):
        if all(str(row.get(key)) == value for key, value in place.row.items()):
            return _read(row, place.column)
    return None


def _read(row: Mapping[Any, Any], column: str) -> Figure | None:
    def number(name: str) -> float | None:
        text = row.get(name, "")
        return float(text) if text else None

    value = number(column)
    if value is None:
        return None
    prefix = "" if column == "difference" else f"{column}_"
    low, high = (number(f"{prefix}{end}") for end in ("lo", "hi"))
    measured = f"{prefix}lo" in row
    if low is None or high is None:
        low, high = (-inf, inf) if measured else (value, value)
    count = str(row.get("n", "")) if measured else ""
    return Figure(value, low, high, count, number(f"{column}_floor"), number(f"{column}_p"))


def _missing(paper: Paper, out: Path) -> list[str]:
    """Return tables that tests name and that are not there; raises BadData without any of them."""
    places = (place for one in paper.claims for t in one.tests for place in (t.first, t.second))
    named = sorted({place.table for place in places if place.table})
    missing = [table for table in named if not (out / table).is_file()]
    if not named or len(missing) < len(named):
        return missing
    command = next((one.command for one in paper.claims if one.tests and one.command), "")
    raise BadData(
        f"{out} has none of the tables by which {paper.title} is judged: {', '.join(named)}. Name "
        "the folder that has them with --out, such as `results` in a copy of the project; its page "
        f"has below each claim the command that makes what it reads, first `{command}`."
    )


def page(paper: Paper, out: Path) -> str:
    """Return the page on a paper in Markdown; raises BadData where no test has a table."""
    missing = _missing(paper, out)
    lines = [
        f"# {paper.title}: what the paper claims, and what is measured here",
        "",
        "Generated by `privbench claims`, from the tables of the results folder. Sources: "
        f"{', '.join(paper.sources)}.",
        "",
        "A test is upheld or refuted where the 95 % intervals of its two figures leave no doubt, "
        "and not testable here where they overlap by more than an end, a figure is missing, the "
        "control does not leak, or ways of training are compared by one training each. PSNR of "
        "two victims on the same pictures is tested in pairs, by the mean difference of the "
        f"leaderboard, and not testable here where its p (sign flips, Holm) is above {LEVEL:g}. A "
        "claim has the verdict of its tests, in part where these differ.",
        *(["", f"Tables that are missing here: {', '.join(missing)}."] if missing else []),
        "",
        "| claim | in our words | verdict |",
        "| --- | --- | --- |",
    ]
    verdicts = {claim.id: judged(claim, out) for claim in paper.claims}
    for claim in paper.claims:
        lines.append(
            f"| [{claim.id}](#{claim.id.lower()}) | {claim.says} | {verdicts[claim.id][0]} |"
        )
    for claim in paper.claims:
        verdict, results = verdicts[claim.id]
        lines += ["", f"## {claim.id}", "", f"{claim.says} **{verdict.capitalize()}.**"]
        lines += [f"\n{claim.remark}"] if claim.remark else []
        lines += _table(results) if results else []
        if claim.command:
            lines += ["", "<!-- long -->", "```bash", claim.command, "```"]
    return "\n".join(lines) + "\n"


def _table(results: Sequence[Result]) -> list[str]:
    lines = ["", "| test | first | second | expected | paper says | |", "| --- " * 6 + "|"]
    for one in results:
        test = one.test
        what = f"{test.what} (one training each)" if test.single else test.what
        paper = [place.paper for place in (test.first, test.second)]
        said = " and ".join(f"{value:g}" for value in paper if value is not None)
        cells = [_cell(place, figure) for place, figure in _sides(one)]
        lines.append(f"| {what} | {' | '.join(cells)} | {test.expect} | {said} | {one.verdict} |")
    return lines


def _sides(one: Result) -> list[tuple[Place, Figure | None]]:
    return [(one.test.first, one.first), (one.test.second, one.second)]


def _cell(place: Place, figure: Figure | None) -> str:
    if figure is None:
        return ""
    return f"{figure}, {place.of}" if place.of else str(figure)
