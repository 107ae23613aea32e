"""Two models on the same pictures: paired differences, tested, corrected over the table."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from privbench.corruption_names import COUNTED
from privbench.errors import BadSetting, UnknownName
from privbench.kind import Kind
from privbench.records.utility import UtilityRecord
from privbench.reports.columns import interval
from privbench.reports.stats import Strata, holm, paired_statistic, sign_flip
from privbench.utility.calibration import aurra, rms_error
from privbench.utility.corruption_error import PerImage, mean_error, missing
from privbench.utility.detection import Ranking
from privbench.utility.tasks import Task, Who, tasks

COLUMNS = ("measure", "n", "first", "second", "difference", "lo", "hi", "p", "p_holm")
NO_SCORES = ("confidence", "outsideness", "treated", "wrong")
"""Columns that no row is about: other figures are made of them."""
SIDES = ("inside", "outside")
RANKED: Mapping[str, Callable[[Strata], float]] = {
    name: lambda both, name=name: Ranking(both[0][:, 0], both[1][:, 0]).figures()[name]
    for name in ("aupr", "auroc", "fpr95")
}
CALIBRATED: Mapping[str, Callable[[Strata], float]] = {
    "rms": lambda one: rms_error(one[0][:, 0], one[0][:, 1]),
    "aurra": lambda one: aurra(one[0][:, 0], one[0][:, 1]),
}


def compare(
    records: Sequence[UtilityRecord],
    first: str,
    second: str,
    weights: str | None = None,
    against: str | None = None,
) -> pd.DataFrame:
    """Return a row per measure that both models have on the same pictures.

    Difference is first minus second, with its 95 % bootstrap interval over pictures; p is two-sided
    (sign flips, or swaps where a figure is no mean), p_holm is corrected over the table. Models go
    by their label in the tables; weights are those of both, or with `against` of the first. Raises
    UnknownName, or BadSetting where there is nothing to compare, or more than one set of weights.
    """
    if not records:
        names = ",".join(label.partition("(")[0] for label in dict.fromkeys((first, second)))
        raise BadSetting(
            "No model was measured yet, so there is nothing to compare. Run `privbench eval "
            f"--model {names}` first, with the settings and the --out of this comparison."
        )
    found = tasks(records)
    mine, yours = _of(found, first, weights), _of(found, second, against or weights)
    rows = []
    for task in mine:
        several = sum(one.name == task.name for one in mine) > 1
        for other in yours:
            if other.name == task.name and any(_pairs(task, other)):
                made = [*_means(task, other), *_statistics(task, other)]
                rows += [_on(task.dataset, row) for row in made] if several else made
                break
    if not rows:
        names = ",".join(one.passes[0].case.model.name for (one, *_) in (mine, yours))
        raise BadSetting(
            f"{first} and {second} were never measured on the same pictures. Run `privbench eval "
            f"--model {names}` first, with the settings and the --out of this comparison."
        )
    corrected = holm([row["p"] for row in rows])
    rows = [row | {"p_holm": p} for row, p in zip(rows, corrected, strict=True)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _on(dataset: str, row: dict[str, Any]) -> dict[str, Any]:
    """Say which data a measure is of, where there are several."""
    return row | {"measure": f"{row['measure']} on {dataset}"}


def _of(found: Mapping[Who, list[Task]], name: str, weights: str | None) -> list[Task]:
    same = [who for who in found if who[0] == name]
    if not same:
        raise UnknownName("measured model", name, {who[0] for who in found})
    chosen = [who for who in same if weights in (None, who[1], who[2])]
    if len(chosen) != 1:
        choices = ", ".join(f"{who[1]} ({who[2]})" for who in same)
        raise BadSetting(
            f"{name} was measured with these weights: {choices}. Say which with --weights NAME, or "
            "in --pairs, by name or its twelve digits."
        )
    return found[chosen[0]]


def _means(task: Task, other: Task) -> Iterator[dict[str, Any]]:
    """Yield figures that are means over pictures."""
    pairs = sorted(_pairs(task, other), key=lambda pair: sorted(pair[0].case.condition.items()))
    for a, b in pairs:
        for name in a.values:
            if name in b.values and not name.startswith(NO_SCORES):
                words = _words(task, a) if name == "right" else name
                x, y = (np.array(one.values[name], dtype=float) for one in (a, b))
                yield _mean(words, x, y)
    mine = Task(task.name, [a for a, _ in pairs]).cells() if pairs else {}
    yours = Task(task.name, [b for _, b in pairs]).cells() if pairs else {}
    for corruption in COUNTED:
        levels = sorted(cell for cell in mine if cell[0] == corruption)
        if levels:
            x, y = (100 * np.mean([c[cell] for cell in levels], axis=0) for c in (mine, yours))
            yield _mean(f"{task.name} {corruption}", x, y)
    if mine and not missing(mine):
        yield _mean(f"{task.name} mean error", mean_error(mine), mean_error(yours))


def _statistics(task: Task, other: Task) -> Iterator[dict[str, Any]]:
    """Yield figures of rankings and of confidence."""
    pairs = list(_pairs(task, other))
    strata: tuple[list[PerImage], list[PerImage]] = ([], [])
    for side in SIDES:
        for a, b in pairs:
            if a.case.condition.get("side") == side:
                strata[0].append(_columns(a, "outsideness"))
                strata[1].append(_columns(b, "outsideness"))
    if len(strata[0]) == len(SIDES):
        for name, statistic in RANKED.items():
            yield _statistic(f"{task.name} {name}", strata[0], strata[1], statistic)
    for a, b in pairs:
        if {"right", "confidence"} <= a.values.keys() & b.values.keys():
            x, y = ([_columns(one, "right", "confidence")] for one in (a, b))
            for name, statistic in CALIBRATED.items():
                yield _statistic(f"{_words(task, a)} {name}", x, y, statistic)


def _pairs(task: Task, other: Task) -> Iterator[tuple[UtilityRecord, UtilityRecord]]:
    """Match passes of the same pictures, seed and condition."""

    def identity(one: UtilityRecord) -> tuple[object, ...]:
        case = one.case
        return str(sorted(case.condition.items())), case.images_sha256, case.n, case.seed

    known = {identity(one): one for one in other.passes}
    for one in task.passes:
        if identity(one) in known:
            yield one, known[identity(one)]


def _words(task: Task, one: UtilityRecord) -> str:
    return f"{task.name} {' '.join(str(value) for value in one.case.condition.values())}".strip()


def _columns(one: UtilityRecord, *names: str) -> PerImage:
    """Return columns side by side, of the pictures that could be read."""
    found = np.stack([np.array(one.values[name], dtype=float) for name in names], axis=1)
    return found[~np.isnan(found).any(axis=1)]


def _mean(name: str, x: PerImage, y: PerImage) -> dict[str, Any]:
    """Compare where both have a number: unreadable pictures are the same for both."""
    known = ~np.isnan(x) & ~np.isnan(y)
    x, y = x[known], y[known]
    difference, low, high = interval(Kind.DIFFERENCE, (x - y).tolist())
    means = [float(one.mean()) if len(one) else float("nan") for one in (x, y)]
    figures = (name, len(x), *means, difference, low, high, sign_flip((x - y).tolist()))
    return dict(zip(COLUMNS, figures, strict=False))


def _statistic(
    name: str, x: Strata, y: Strata, statistic: Callable[[Strata], float]
) -> dict[str, Any]:
    n, both = len(x[-1]), (statistic(x), statistic(y))
    figures = (name, n, *both, *paired_statistic(x, y, statistic))
    return dict(zip(COLUMNS, figures, strict=False))
