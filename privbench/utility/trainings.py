"""Two ways of training, each with several seeds: differences over trainings, not over pictures.

Trained once more, a network answers other pictures right. An interval over pictures says how well
two files of weights were told apart, and not which way of training is better; this one does.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from privbench.errors import BadSetting
from privbench.records.utility import UtilityRecord
from privbench.reports.stats import holm, over_few
from privbench.utility.compare import COLUMNS, compare

Pair = tuple[str, str]
"""Weights of the first model and of the second, trained with one seed: names, or twelve digits."""


def read_pairs(text: str) -> list[Pair]:
    """Read `A:B,C:D`; raises BadSetting where a pair is none, or weights stand in two."""
    pairs = [tuple(part.strip() for part in one.split(":")) for one in text.split(",")]
    wrong = next((one for one in pairs if len(one) != 2 or not all(one)), None)
    if wrong is not None:
        raise BadSetting(
            f"--pairs: '{':'.join(wrong)}' is no pair. Write FIRST:SECOND for each seed, with a "
            "comma between two, such as trained:trained,a.safetensors:b.safetensors."
        )
    if len(pairs) == 1:
        raise BadSetting(
            "--pairs: one pair of trainings has no interval. Give several, or leave --pairs out "
            "for an interval over pictures."
        )
    for side in zip(*pairs, strict=True):
        if twice := sorted({name for name in side if side.count(name) > 1}):
            raise BadSetting(
                f"--pairs: {twice[0]} stands in two pairs. Each training counts once; of files of "
                "one name give the twelve digits that accuracy.csv has."
            )
    return [(one[0], one[1]) for one in pairs]


def over_trainings(
    records: Sequence[UtilityRecord], first: str, second: str, pairs: Sequence[Pair]
) -> pd.DataFrame:
    """Return a row per measure; n counts the pairs that have it.

    Each pair is compared on its own pictures; then the difference is the mean over pairs, its 95 %
    interval and p are Student's, and p_holm is corrected over the table. Raises as `compare`.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for mine, yours in pairs:
        for row in compare(records, first, second, mine, yours).to_dict("records"):
            found.setdefault(str(row["measure"]), []).append({str(k): v for k, v in row.items()})
    rows = []
    for measure, of in found.items():
        means = [float(np.mean([row[key] for row in of])) for key in ("first", "second")]
        figures = over_few([row["difference"] for row in of])
        rows.append(dict(zip(COLUMNS, (measure, len(of), *means, *figures), strict=False)))
    corrected = holm([row["p"] for row in rows])
    rows = [row | {"p_holm": p} for row, p in zip(rows, corrected, strict=True)]
    return pd.DataFrame(rows, columns=list(COLUMNS))
