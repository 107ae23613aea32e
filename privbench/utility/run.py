"""Evaluates models: resumes pass by pass, and writes a record for each."""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from privbench.records.store import write
from privbench.records.utility import UtilityRecord, UtilityStore
from privbench.running.environment import describe
from privbench.running.environment import device as pick
from privbench.seeds import generator
from privbench.utility.plan import Pass, Request, plan_passes
from privbench.utility.robustness import robustness_table
from privbench.utility.table import utility_table

BATCH = 250
"""Pictures that all models are shown at once."""

Report = Callable[[str, int, int], None]
"""Called with what is measured, the pictures done and all pictures."""


def evaluate(request: Request, device: str, out: Path, report: Report) -> list[UtilityRecord]:
    """Measure what has no record yet; return the records of all that was asked for.

    Writes accuracy.csv and robustness.csv from all records under out. Raises PrivbenchError
    before the first pass where a name, a setting or a folder is wrong.
    """
    where, store = pick(device), UtilityStore(out)
    passes = plan_passes(request, where)
    asked = [case for one in passes for case, _ in one.cases]
    try:
        for one in passes:
            one.cases = [(case, model) for case, model in one.cases if store.get(case) is None]
            if one.cases:
                for record in _measure(one, where, report):
                    store.put(record)
    finally:
        write_tables(store)
    return [record for case in asked if (record := store.get(case)) is not None]


def write_tables(store: UtilityStore) -> None:
    """Write the tables of all records."""
    known = list(store.records())
    for name, table in (("accuracy", utility_table), ("robustness", robustness_table)):
        if len(found := table(known)):
            text = found.to_csv(index=False, float_format="%.6g")
            write(store.folder / f"{name}.csv", text.encode())


@torch.no_grad()
def _measure(one: Pass, device: torch.device, report: Report) -> list[UtilityRecord]:
    """Show all models the same pictures; an unreadable one counts for none of them."""
    start, total, condition = time.perf_counter(), len(one.gallery), dict(one.condition)
    found: list[dict[str, list[float | None]]] = [{} for _ in one.cases]
    seed = one.cases[0][0].seed
    for first in range(0, total, BATCH):
        numbers = one.gallery.chosen[first : first + BATCH]
        images, labels, at = one.gallery.load(numbers)
        if at:
            rngs = [generator("prepare", seed, condition, numbers[place]) for place in at]
            images = one.evaluation.prepare(images, one.condition, rngs).to(device)
            labels = labels.to(device)
        for (_, model), columns in zip(one.cases, found, strict=True):
            if not at:
                continue
            rngs = [generator("eval", seed, condition, numbers[place]) for place in at]
            measured = one.evaluation.measure(model, images, labels, one.condition, rngs)
            for name, values in measured.items():
                column = columns.setdefault(name, [None] * total)
                for place, value in zip(at, values.tolist(), strict=True):
                    column[first + place] = value
        report(one.title, min(first + BATCH, total), total)
    seconds = (time.perf_counter() - start) / len(one.cases)
    warnings = tuple(text for text in (one.gallery.complaint(), one.gallery.note) if text)
    return [
        UtilityRecord(case, columns, seconds, describe(device), warnings)
        for (case, _), columns in zip(one.cases, found, strict=True)
    ]
