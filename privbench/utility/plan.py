"""A request becomes passes: names, settings and folders are checked before any pass runs."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from privbench.classifier import Classifier
from privbench.component import Part, find, label, make, names
from privbench.dataset import Dataset
from privbench.errors import BadData, BadSetting
from privbench.evaluation import Condition, Evaluation, Source
from privbench.records.asked import Asked
from privbench.records.utility import UtilityCase
from privbench.running.plan import open_dataset, part_of
from privbench.running.suite import distribute
from privbench.utility.pictures import Gallery, Report, choose, silent
from privbench.victims.classifier import open_classifier, settings_of
from privbench.victims.preset import parse_settings

SECTIONS = ("dataset", "eval", "model")
OUTSIDE = 1000
"""Classes that a data set may have whose labels mean nothing."""

Named = tuple[str, Evaluation]


@dataclass(frozen=True)
class Request:
    """What to measure: the options of `privbench eval`."""

    models: Sequence[str]
    evals: Sequence[str] = ()
    """By name; without one the standard ones."""
    dataset: str | None = None
    data_root: Path | None = None
    assignments: Sequence[str] = ()
    images: int | None = None
    """A fixed part of so many; of a smaller data set, all."""
    seed: int = 0
    weights: str | None = None
    robustness: bool = False
    """Also all that suits the data set."""
    roots: Mapping[str, Path] = field(default_factory=dict)
    """Folders of data sets that evaluations bring along, by name."""


@dataclass
class Pass:
    """One pass over pictures, for all models together."""

    evaluation: Evaluation
    condition: Condition
    gallery: Gallery
    cases: list[tuple[UtilityCase, Classifier]] = field(default_factory=list)

    @property
    def title(self) -> str:
        """What a progress bar says."""
        first = self.cases[0][0]
        who = first.model.label if len(self.cases) == 1 else f"{len(self.cases)} models"
        words = ", ".join(f"{key} {value}" for key, value in self.condition.items())
        return f"{who}: {first.evaluation.name} {words}".strip()


def plan_passes(request: Request, device: torch.device, report: Report = silent) -> list[Pass]:
    """Return the passes in running order, each with its cases."""
    settings = parse_settings(request.assignments, SECTIONS)
    changes = distribute("model", settings["model"], {n: settings_of(n) for n in request.models})
    opened = [open_classifier(n, changes[n], request.weights, device) for n in request.models]
    shelf = _Shelf(request, settings["dataset"], report)
    passes: dict[tuple[Any, ...], Pass] = {}
    for name, evaluation in _wanted(request, settings["eval"], opened):
        for condition in evaluation.conditions():
            for model in opened:
                if evaluation.of_victims and model.public is None:
                    continue
                gallery = shelf.gallery(name, evaluation.source(condition), model)
                if gallery is None:
                    continue
                key = (name, str(condition), id(gallery))
                one = passes.setdefault(key, Pass(evaluation, condition, gallery))
                fitting = model.restricted(gallery.pictures.columns())
                one.cases.append((_case(request, name, one, model), fitting))
    if not passes:
        raise BadSetting(
            "None of these evaluations can be made of these models. Choose --eval accuracy, or "
            "see `privbench list evals`."
        )
    return list(passes.values())


def asked_for(passes: Sequence[Pass]) -> dict[str, Asked]:
    """Return, by key, the name of the data, and a digest of all that one evaluation shows a model.

    What comes along needs no digest: its name says all.
    """
    groups: dict[tuple[str, str, str], list[tuple[UtilityCase, bool]]] = {}
    for one in passes:
        theirs = one.gallery.pictures.root is not None
        for case, _ in one.cases:
            who = (case.evaluation.label, case.model.label, case.weights_sha256)
            groups.setdefault(who, []).append((case, theirs))
    found: dict[str, Asked] = {}
    for group in groups.values():
        shown = sorted((str(sorted(c.condition.items())), c.images_sha256) for c, _ in group)
        data = hashlib.sha256(str(shown).encode()).hexdigest() if any(t for _, t in group) else ""
        found |= {case.key: Asked(case.dataset.label, data) for case, _ in group}
    return found


def _wanted(
    request: Request, settings: Mapping[str, Any], opened: Sequence[Classifier]
) -> list[Named]:
    """Return evaluations by name, or the standard ones; and those that the folders call for."""
    shelf = {name: find(Evaluation, name) for name in names(Evaluation.shelf)}
    sets = {request.dataset or model.dataset for model in opened}
    chosen = list(request.evals) or [name for name, kind in shelf.items() if kind.standard]
    if request.robustness:
        chosen += [name for name, kind in shelf.items() if {kind.suits} == sets and not kind.brings]
    chosen += [name for name, kind in shelf.items() if kind.brings in request.roots]
    chosen = list(dict.fromkeys(chosen))
    known = {name: find(Evaluation, name).setting_names() for name in chosen}
    given = distribute("eval", settings, known)
    return [(name, make(Evaluation, name, given[name])) for name in chosen]


@dataclass
class _Shelf:
    """Data sets that were opened, each once for every size and number of classes."""

    request: Request
    settings: Mapping[str, Any]
    report: Report
    found: dict[tuple[str, str, int, int], Gallery] = field(default_factory=dict)

    def gallery(self, asks: str, source: Source | None, model: Classifier) -> Gallery | None:
        """Return the pictures of a pass; None where they are optional and not at hand."""
        asked = self.request.dataset or model.dataset
        name = source.dataset if source else asked
        root = self.request.roots.get(name, self.request.data_root if name == asked else None)
        if source and root is None:
            if source.optional:
                return None
            option = f"--{name.replace('_', '-')}"
            raise BadSetting(f"{asks} needs pictures of {name}. Add {option} PATH.")
        classes = OUTSIDE if source and source.outside else model.classes
        known = find(Dataset, name).setting_names()
        settings = {k: v for k, v in self.settings.items() if name == asked or k in known}
        settings |= source.settings if source else {}
        key = (name, str(settings), model.side, classes)
        if key not in self.found:
            part, pictures = open_dataset(name, settings, root)
            if not (source and source.outside) and not pictures.labelled():
                raise BadData(
                    f"{name} has no classes, so no answer is right or wrong. Choose --dataset "
                    "cifar10, or a folder with class folders or a labels.csv."
                )
            count, wished = len(pictures), self.request.images
            if source and wished is not None:
                wished = min(wished, count)
            chosen = choose(count, wished)
            keep = source is None
            self.found[key] = Gallery(
                part, pictures, model.side, classes, chosen, keep, report=self.report
            )
        return self.found[key]


def _case(request: Request, name: str, one: Pass, model: Classifier) -> UtilityCase:
    return UtilityCase(
        model=model.part,
        control=model.control,
        weights=model.weights,
        weights_sha256=model.weights_sha256,
        evaluation=_part(name, one.evaluation),
        condition=one.condition,
        dataset=one.gallery.part,
        n=len(one.gallery),
        images_sha256=one.gallery.sha256,
        seed=request.seed,
    )


def _part(name: str, evaluation: Evaluation) -> Part:
    """Name an evaluation for records, without the settings that choose its passes."""
    part = part_of(name, evaluation)
    changed = {k: v for k, v in evaluation.changed().items() if k not in evaluation.passes}
    settings = {k: v for k, v in part.settings.items() if k not in evaluation.passes}
    return Part(name, label(name, changed), part.version, settings)
