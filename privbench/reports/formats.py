"""The leaderboard as CSV, Markdown, LaTeX and HTML: the same rows, in order, to the same digits."""

import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import StringIO

import pandas as pd

from privbench.reports.board import Section
from privbench.reports.board_columns import Column
from privbench.reports.flags import FLAGS
from privbench.reports.ranks import MOST_ROWS

TOO_MANY = (
    f"where more than {MOST_ROWS} rows of one protocol could have one, no number of draws tells "
    "all their pairs apart; fewer rows, such as one for each victim and defense, have them"
)
TEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def csv(sections: Sequence[Section], columns: Sequence[Column]) -> str:
    """Return one table: the protocol's columns first, a number and its ends in columns each."""
    rows = []
    for section in sections:
        for row in section.rows:
            line = dict(section.protocol)
            for column in columns:
                line |= _cells(column, row)
            rows.append(line)
    buffer = StringIO()
    pd.DataFrame(rows).to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue()


def _cells(column: Column, row: Mapping[str, object]) -> dict[str, str]:
    if column.name == "n":
        return {name: str(row[name]) for name in ("n", "failed", "refused")}
    if column.name == "victim":
        return {name: str(row[name]) for name in ("model", "defense")}
    if not column.interval:
        return {column.name: column.cell(row)}
    ends = {}
    for end in ("", "_lo", "_hi"):
        value = row.get(f"{column.name}{end}")
        known = isinstance(value, int | float) and value == value
        ends[f"{column.name}{end}"] = f"{value:.{column.digits}f}" if known else ""
    return ends


def md(sections: Sequence[Section], columns: Sequence[Column]) -> str:
    """Return a table in Markdown for each section."""
    parts = []
    for section in sections:
        lines = [[one.heading for one in columns], ["---" if c.text else "---:" for c in columns]]
        lines += [[one.cell(row) for one in columns] for row in section.rows]
        body = [f"| {' | '.join(_plain_md(cell) for cell in line)} |" for line in lines]
        parts.append("\n".join([f"**{_plain_md(section.title)}**", "", *body]))
    return "\n\n".join([*parts, *(f"{name}: {what}." for name, what in raised(sections))]) + "\n"


def _plain_md(text: str) -> str:
    return re.sub(r"([|`*_<\[\]\\])", r"\\\1", text)


def latex(sections: Sequence[Section], columns: Sequence[Column]) -> str:
    """Return a tabular for each section, with booktabs' rules."""
    parts = []
    for section in sections:
        shape = "".join("l" if column.text else "r" for column in columns)
        lines = [f"% {_tex(section.title)}", f"\\begin{{tabular}}{{{shape}}}", "\\toprule"]
        lines += [_tex_row(one.heading for one in columns), "\\midrule"]
        lines += [_tex_row(one.cell(row) for one in columns) for row in section.rows]
        parts.append("\n".join([*lines, "\\bottomrule", "\\end{tabular}"]))
    return "\n\n".join([*parts, *(f"% {name}: {what}." for name, what in raised(sections))]) + "\n"


def _tex_row(cells: Iterable[str]) -> str:
    return " & ".join(_tex(cell) for cell in cells) + r" \\"


def _tex(text: str) -> str:
    return "".join(TEX.get(letter, letter) for letter in text)


def html_table(sections: Sequence[Section], columns: Sequence[Column]) -> str:
    """Return a table in HTML for each section, every text escaped."""
    parts = []
    for section in sections:
        head = "".join(f'<th scope="col">{html.escape(one.heading)}</th>' for one in columns)
        body = "\n".join(
            f"<tr>{''.join(f'<td>{html.escape(one.cell(row))}</td>' for one in columns)}</tr>"
            for row in section.rows
        )
        caption = f"<caption>{html.escape(section.title)}</caption>"
        parts.append(
            f"<table>{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
        )
    said = "".join(f"<li>{name}: {html.escape(what)}</li>" for name, what in raised(sections))
    return "\n".join([*parts, f"<ul>{said}</ul>" if said else ""]).strip() + "\n"


def raised(sections: Sequence[Section]) -> list[tuple[str, str]]:
    """Return the flags that any row has, with their meaning, and whether ranks are left out."""
    found = {name for s in sections for row in s.rows for name in row["flags"].split(", ")}
    said = [(name, what) for name, what in FLAGS.items() if name in found]
    return [*said, ("no ranks", TOO_MANY)] if any(s.crowded for s in sections) else said


FORMATS: Mapping[str, Callable[[Sequence[Section], Sequence[Column]], str]] = {
    "csv": csv,
    "md": md,
    "latex": latex,
    "html": html_table,
}
