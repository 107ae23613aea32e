"""Evaluates models: resumes pass by pass, and writes a record for each."""

import time
from collections.abc import Iterable, Sequence
from math import inf
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from privbench.classifier import Classifier, require_finite
from privbench.errors import NotFinite
from privbench.kind import declared
from privbench.records.asked import named
from privbench.records.files import write
from privbench.records.utility import UtilityRecord, UtilityStore
from privbench.running.environment import describe
from privbench.running.environment import device as pick
from privbench.seeds import generator
from privbench.threat import Images
from privbench.utility.cells import corruption_table
from privbench.utility.pictures import Report
from privbench.utility.plan import Pass, Request, asked_for, plan_passes
from privbench.utility.robustness import robustness_table
from privbench.utility.table import utility_table

BATCH = 250
"""Pictures that all models are shown at once."""

SOME = "_when_"
"""In the name of a column that some pictures do not count for: NaN means nothing else in it."""

TABLES = {
    "accuracy": utility_table,
    "robustness": robustness_table,
    "corruptions": corruption_table,
}
"""Tables of all records, by the name of their file."""


def evaluate(request: Request, device: str, out: Path, report: Report) -> list[UtilityRecord]:
    """Measure what has no record yet; return the records of all that was asked for.

    Writes accuracy.csv, robustness.csv and corruptions.csv from all records under out. Raises
    PrivbenchError before the first pass where a name, a setting or a folder is wrong, and
    NotFinite in the pass in which a model answers with NaN or infinity: that pass gets no record.
    """
    where, store = pick(device), UtilityStore(out)
    passes = plan_passes(request, where, report)
    asked = asked_for(passes)
    cases = [case for one in passes for case, _ in one.cases]
    known = {case.key: store.get(case) for case in cases}
    store.ask(asked, known)
    try:
        for one in passes:
            one.cases = [(case, model) for case, model in one.cases if known[case.key] is None]
            if one.cases:
                for record in _measure(one, where, report):
                    store.put(record)
    finally:
        write_tables(store)
    found = [record for case in cases if (record := store.get(case)) is not None]
    return [named(record, asked[record.case.key]) for record in found]


def write_tables(store: UtilityStore) -> None:
    """Write the tables of all records."""
    known = list(store.records())
    for name, table in TABLES.items():
        if len(found := table(known)):
            text = found.to_csv(index=False, float_format="%.6g")
            write(store.folder / f"{name}.csv", text.encode())


def measured_by(
    one: Pass,
    model: Classifier,
    images: Images,
    labels: Int[Tensor, " b"],
    numbers: Sequence[int],
) -> dict[str, Float[Tensor, " b"]]:
    """Measure one model on some pictures.

    Raises NotFinite where an answer or a number is none, and TypeError where an evaluation
    declares no kind for a column.
    """
    case, condition = one.cases[0][0], one.condition
    rngs = [generator("eval", case.seed, dict(condition), number) for number in numbers]
    try:
        measured = one.evaluation.measure(model, images, labels, condition, rngs)
        for name, values in measured.items():
            if declared(one.evaluation.kinds, name) is None:
                raise TypeError(f"{type(one.evaluation).__name__} declares no kind of '{name}'")
            require_finite(values.nan_to_num(0, inf, -inf) if SOME in name else values)
    except NotFinite as error:
        raise NotFinite(
            f"{model.part.label} answers picture {numbers[error.rows[0]]} of "
            f"{case.dataset.label} with NaN or infinity ({case.evaluation.label}), so no figure "
            "of it would mean anything. Check its weights and what it does to such a picture, or "
            "leave it out of --model."
        ) from None
    return measured


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
            shown = [numbers[place] for place in at]
            measured = measured_by(one, model, images, labels, shown)
            for name, values in measured.items():
                column = columns.setdefault(name, [None] * total)
                for place, value in zip(at, values.tolist(), strict=True):
                    column[first + place] = value
        report(one.title, min(first + BATCH, total), total)
    seconds = (time.perf_counter() - start) / len(one.cases)
    warnings = tuple(text for text in (one.gallery.complaint(), one.gallery.note) if text)
    return [
        UtilityRecord(
            case,
            columns,
            seconds,
            describe(device),
            warnings + model.notes,
            _kinds(one, columns),
        )
        for (case, model), columns in zip(one.cases, found, strict=True)
    ]


def _kinds(one: Pass, columns: Iterable[str]) -> dict[str, str]:
    found = {name: declared(one.evaluation.kinds, name) for name in columns}
    return {name: str(kind) for name, kind in found.items() if kind is not None}
