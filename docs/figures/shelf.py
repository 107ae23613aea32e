"""Draw results/shelf/price.png and .svg from its tables: python docs/figures/shelf.py."""

from pathlib import Path

import pandas as pd

from privbench.bounds.table import join_table as ceilings
from privbench.price.table import join_table as prices
from privbench.reports.axes import png, svg
from privbench.reports.price_figure import against_price, of_tables

FOLDER = Path(__file__).parents[2] / "results" / "shelf"


def table(name: str) -> pd.DataFrame:
    """Read a table; twelve digits of a weights file may look like a number, and are none."""
    return pd.read_csv(FOLDER / f"{name}.csv", converters={"weights_sha256": str})


def main() -> None:
    """Draw both files."""
    rows = of_tables(table("leaderboard"), [ceilings(table("bounds")), prices(table("price"))])
    figure = against_price(rows, "the shelf of defenses")
    (FOLDER / "price.png").write_bytes(png(figure))
    (FOLDER / "price.svg").write_text(svg(figure, "price"), encoding="utf-8")


if __name__ == "__main__":
    main()
