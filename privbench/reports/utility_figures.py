"""What the leaderboard shows of utility records: a victim's accuracy, robustness, consistency."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from privbench.records.utility import UtilityRecord
from privbench.utility.robustness import robustness_table
from privbench.utility.table import utility_table

PLAIN = ("top1", "agreement")
"""Columns of the table of accuracy: right answers, and the same answer with patches shuffled."""
ROBUST = ("*_mCE_*", "*_mean_error", "imagenet_*_top1", "*_aupr")
"""Columns of the table of robustness: corruptions, ImageNet-A and its like, unknown classes."""
LEFT_OUT = ("*_rel_mCE_*", "*_clean_*")
ENDS = ("", "_lo", "_hi")

Victim = tuple[str, str, str]
"""Label, name of the weights, twelve digits of them."""


def utility_figures(records: Iterable[UtilityRecord]) -> dict[Victim, dict[str, float]]:
    """Return figures with the ends of their intervals by victim; of several sets the largest.

    Shares are in percent, as errors and mCE are.
    """
    found: dict[Victim, dict[str, float]] = {}
    measured = list(records)
    robust = robustness_table(measured)
    for row in robust.to_dict("records"):
        names = [n for n in map(str, row) if _wanted(n) and f"{n}_lo" in row]
        _fill(found, row, names)
    plain = utility_table(measured)
    for row in sorted(plain.to_dict("records"), key=lambda row: -row["n"]):
        _fill(found, row, [name for name in PLAIN if name in row])
    return found


def _wanted(name: str) -> bool:
    wanted = any(fnmatchcase(name, pattern) for pattern in ROBUST)
    return wanted and not any(fnmatchcase(name, pattern) for pattern in LEFT_OUT)


def _fill(found: dict[Victim, dict[str, float]], row: dict[Any, Any], names: list[str]) -> None:
    """Add what was measured and is not there yet."""
    mine = found.setdefault((row["model"], row["weights"], row["weights_sha256"]), {})
    for name in names:
        if row[name] == row[name] and name not in mine:
            scale = 1.0 if "_mCE_" in name or name.endswith("_mean_error") else 100.0
            mine |= {f"{name}{end}": scale * row[f"{name}{end}"] for end in ENDS}
