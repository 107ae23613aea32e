"""Draw results/shelf/price.png and .svg, and write docs/shelf.md's tables, from results/shelf.

python docs/figures/shelf.py
"""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from privbench.bounds.table import join_table as ceilings
from privbench.price.table import join_table as prices
from privbench.reports.axes import png, svg
from privbench.reports.price_figure import against_price, of_tables

ROOT = Path(__file__).parents[2]
FOLDER, PAGE = ROOT / "results" / "shelf", ROOT / "docs" / "shelf.md"
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
HEAD = "defense|n|PSNR, dB (95 %)|matched|best member|more patience|ceiling|price, points (95 %)"
ENSEMBLES = ("auto", "auto(tier=smoke)")
"""Of these the first that ran on enough pictures is the row; what else ran has more patience."""
ENOUGH = 8
FLOOR = "mean"

Row = dict[Any, Any]


def table(name: str) -> pd.DataFrame:
    """Read a table; twelve digits of a weights file may look like a number, and are none."""
    return pd.read_csv(FOLDER / f"{name}.csv", converters={"weights_sha256": str})


def lines(model: str) -> list[str]:
    """Return a victim's table, worst first: what comes back, what could, and what hiding costs."""
    board = table("leaderboard")
    board = board.loc[board["model"] == model]
    high, cost = (_by_defense(frame, model) for frame in (table("bounds"), table("price")))
    rows = []
    for defense, ran in board.groupby("defense"):
        by_attack = {row["attack"]: row for row in ran.to_dict("records")}
        ran_on = {name: row["n"] for name, row in by_attack.items()}
        chosen = next(name for name in ENSEMBLES if ran_on.get(name, 0) >= ENOUGH)
        row = by_attack.pop(chosen)
        others = [one for name, one in by_attack.items() if name not in (*ENSEMBLES, FLOOR)]
        cells = [
            f"`{defense}`" + ("" if chosen == "auto" else "*"),
            str(row["n"]),
            interval(row, "psnr"),
            f"{row['psnr_matched']:.1f}",
            f"{row['psnr_oracle']:.1f}",
            "; ".join(f"`{one['attack']}` {interval(one, 'psnr')}, n {one['n']}" for one in others),
            _ceiling(high.get(defense)),
            _price(cost.get(defense)),
        ]
        rows.append((-row["psnr"], " | ".join(["", *cells, ""]).strip()))
    heads = HEAD.split("|")
    rule = "| --- " * len(heads) + "|"
    return ["| " + " | ".join(heads) + " |", rule, *(text for _, text in sorted(rows))]


def interval(row: Row, name: str) -> str:
    """Return a mean and the ends of its interval, where it has one."""
    mean, low, high = (row[name + end] for end in ("", "_lo", "_hi"))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})" if low < high else f"{mean:.1f}"


def page() -> str:
    """Return the page with its tables made anew."""

    def anew(found: re.Match[str]) -> str:
        return found[1] + "\n".join(lines(found[2])) + "\n" + found[3]

    return MARKED.sub(anew, PAGE.read_text(encoding="utf-8"))


def _by_defense(frame: pd.DataFrame, model: str) -> dict[Any, Row]:
    rows = frame.loc[frame["model"] == model].to_dict("records")
    return {row["defense"]: row for row in rows}


def _ceiling(row: Row | None) -> str:
    if row is None:
        return ""
    if row["ceiling"] != row["ceiling"]:
        return "not resolved"
    return f"{interval(row, 'ceiling')}, n {row['n']}"


def _price(row: Row | None) -> str:
    if row is None or row["price"] != row["price"]:
        return ""
    mean, low, high = (100 * row[f"price{end}"] for end in ("", "_lo", "_hi"))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    """Draw both files and write the tables."""
    board = table("leaderboard")
    patient = board["attack"].str.startswith("map") & (board["n"] >= ENOUGH)
    board = board.loc[board["attack"].isin(ENSEMBLES) | patient]
    rows = of_tables(board, [ceilings(table("bounds")), prices(table("price"))])
    figure = against_price(rows, "the shelf of defenses")
    (FOLDER / "price.png").write_bytes(png(figure))
    (FOLDER / "price.svg").write_text(svg(figure, "price"), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
