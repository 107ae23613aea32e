"""Figures that other commands derive from records, joined to the rows of the leaderboard."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from privbench.errors import BadData
from privbench.reports.leaderboard import KEYS

FOLDER = "joined"
PLAIN = re.compile(r"knows [^,]+, batch 1")
"""A threat model of one picture in one plain step, in words."""
OF_PLAIN = "ceiling"
"""Figures of such a step alone: nobody bounds batches, local steps or rounding on the way."""
LEAST = "model"
"""Without this key nothing would say what a figure is of."""


def joined(out: Path) -> list[pd.DataFrame]:
    """Return the tables OUT/joined/*.csv; raises BadData for one without a victim or figures.

    A table has some of the columns that name a row of leaderboard.csv (`model` at least), and
    figures, each with `_lo` and `_hi` where it has an interval. Its figures stand in each row of
    the leaderboard that has the same names. So a command that computes what nobody measured yet
    writes one file, and nothing here changes.
    """
    tables = []
    for path in sorted((out / FOLDER).glob("*.csv")):
        try:
            table = pd.read_csv(path, dtype=dict.fromkeys(KEYS, str))  # 12 digits may look like 1e5
            table = table.fillna({"suite": ""}) if "suite" in table else table
        except (ValueError, OSError) as error:
            raise BadData(f"{path} is no table: {error}. Write it anew, or remove it.") from None
        if LEAST not in table.columns or not set(table.columns) - set(KEYS):
            raise BadData(
                f"{path} has no column '{LEAST}' or no figures beside it, so nobody knows what it "
                "is about. Write it anew, or remove it."
            )
        tables.append(table)
    return tables


def figures(tables: Sequence[pd.DataFrame], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a row, by column; empty where no table knows it, or has several.

    A name that the row has not, as the seed of one that is a mean over seeds, is not compared.
    A ceiling is of one picture in one plain step, and stands beside such rows only, unless its
    table says of which threat model it is.
    """
    plain = PLAIN.fullmatch(str(row.get("threat", ""))) is not None
    found: dict[str, Any] = {}
    for table in tables:
        keys = [key for key in KEYS if key in table.columns and key in row]
        lines = [
            line
            for line in table.to_dict("records")
            if all(str(line[key]) == str(row.get(key)) for key in keys)
        ]
        if len(lines) == 1:
            fits = plain or "threat" in keys
            found |= {
                str(k): v
                for k, v in lines[0].items()
                if k not in KEYS and v == v and (fits or not str(k).startswith(OF_PLAIN))
            }
    return found
