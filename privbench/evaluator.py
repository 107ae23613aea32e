"""Evaluates victims: resumes pass by pass, and writes a record for each."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from privbench.case import Part, label
from privbench.client import generator
from privbench.component import find, make, names
from privbench.config import model_preset, parse_settings
from privbench.environment import describe
from privbench.environment import device as pick
from privbench.errors import BadData, BadSetting
from privbench.evaluation import Evaluation
from privbench.plan import control_of, model_part, open_dataset, part_of
from privbench.split import Split
from privbench.store import write
from privbench.suite import distribute
from privbench.utility import UtilityCase, UtilityRecord, UtilityStore
from privbench.utility_table import utility_table
from privbench.victim import Victim, known_settings, load

SECTIONS = ("dataset", "eval", "model")
BATCH = 250

Report = Callable[[str, int, int], None]
"""Called with what is measured, the pictures done and all pictures."""


@dataclass(frozen=True)
class Pictures:
    """Which pictures are shown, and how records name them."""

    part: Part
    split: Split
    chosen: Sequence[int]
    sha256: str


def evaluate(
    models: Sequence[str],
    evals: Sequence[str],
    dataset: str | None,
    data_root: Path | None,
    assignments: Sequence[str],
    *,
    images: int | None,
    seed: int,
    weights: str | None,
    device: str,
    out: Path,
    report: Report,
) -> list[UtilityRecord]:
    """Measure what has no record yet; return the records of all that was asked for.

    Writes accuracy.csv from all records under out. Raises PrivbenchError before the first pass
    where a name, a setting or the pictures are wrong.
    """
    settings = parse_settings(assignments, SECTIONS)
    wanted = list(evals) or names(Evaluation.shelf)
    given = distribute(
        "eval", settings["eval"], {name: find(Evaluation, name).setting_names() for name in wanted}
    )
    measured = [(name, make(Evaluation, name, given[name])) for name in wanted]
    presets = {name: model_preset(name) for name in models}
    changes = distribute(
        "model", settings["model"], {n: known_settings(preset) for n, preset in presets.items()}
    )
    store, where, records = UtilityStore(out), pick(device), []
    shown: dict[tuple[str, int, int], Pictures] = {}
    try:
        for name, preset in presets.items():
            victim = load(name, changes[name], (), weights, where)
            vit = victim.model.vit
            source = dataset or preset.dataset
            place = (source, vit.side, vit.classes)
            if place not in shown:
                shown[place] = _read(source, settings["dataset"], data_root, images, victim)
            pictures = shown[place]
            for kind, evaluation in measured:
                for condition in evaluation.conditions():
                    case = UtilityCase(
                        model=model_part(name, changes[name], victim),
                        control=control_of(preset, changes[name]),
                        weights=victim.weights,
                        weights_sha256=victim.weights_sha256,
                        evaluation=_part(kind, evaluation),
                        condition=condition,
                        dataset=pictures.part,
                        n=len(pictures.chosen),
                        images_sha256=pictures.sha256,
                        seed=seed,
                    )
                    record = store.get(case)
                    if record is None:
                        record = _measure(case, evaluation, victim, pictures, report)
                        store.put(record)
                    records.append(record)
    finally:
        if known := list(store.records()):
            text = utility_table(known).to_csv(index=False, float_format="%.6g")
            write(out / "accuracy.csv", text.encode())
    return records


def _part(name: str, evaluation: Evaluation) -> Part:
    """Name an evaluation for records, without the setting that lists its passes."""
    part = part_of(name, evaluation)
    changed = {k: v for k, v in evaluation.changed().items() if k != evaluation.passes}
    settings = {k: v for k, v in part.settings.items() if k != evaluation.passes}
    return Part(name, label(name, changed), part.version, settings)


def _read(
    name: str, settings: Mapping[str, Any], root: Path | None, images: int | None, victim: Victim
) -> Pictures:
    """Open all pictures, or a fixed random part of them."""
    part, pictures = open_dataset(name, settings, root)
    if not pictures.labelled():
        raise BadData(
            f"{name} has no classes, so no answer is right or wrong. Choose --dataset cifar10, or "
            "a folder with class folders or a labels.csv."
        )
    count = len(pictures)
    if images is not None and not 1 <= images <= count:
        raise BadSetting(f"--images is a number from 1 to {count} here, not {images}.")
    chosen: Sequence[int] = range(count)
    if images is not None and images < count:
        order = torch.randperm(count, generator=generator("part of", count))
        chosen = sorted(order[:images].tolist())
    vit = victim.model.vit
    split = Split(pictures, vit.side, vit.classes)
    digest = hashlib.sha256(f"{split.fingerprint()} {list(chosen)}".encode())
    return Pictures(part, split, chosen, digest.hexdigest())


@torch.no_grad()
def _measure(
    case: UtilityCase,
    evaluation: Evaluation,
    victim: Victim,
    pictures: Pictures,
    report: Report,
) -> UtilityRecord:
    device, start = victim.model.vit.mean.device, time.perf_counter()
    found: dict[str, list[float | None]] = {}
    passing = ", ".join(f"{key} {value}" for key, value in case.condition.items())
    what = f"{case.model.label}: {case.evaluation.name} {passing}".strip()
    for first in range(0, case.n, BATCH):
        chosen = pictures.chosen[first : first + BATCH]
        dice = [generator("eval", case.seed, dict(case.condition), index) for index in chosen]
        images, labels = (one.to(device) for one in pictures.split.load(chosen))
        numbers = evaluation.measure(victim.model, images, labels, case.condition, dice)
        for name, values in numbers.items():
            found.setdefault(name, []).extend(values.tolist())
        report(what, first + len(chosen), case.n)
    return UtilityRecord(case, found, time.perf_counter() - start, describe(device))
