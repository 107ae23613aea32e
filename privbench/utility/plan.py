"""A request becomes passes: names, settings and folders are checked before any pass runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from privbench.classifier import Classifier
from privbench.component import Part, find, label, make, names
from privbench.dataset import Dataset
from privbench.errors import BadData, BadSetting
from privbench.evaluation import Condition, Evaluation, Source
from privbench.records.utility import UtilityCase
from privbench.running.labels import KEY, Head, place
from privbench.running.plan import open_dataset, part_of, with_columns
from privbench.running.suite import distribute
from privbench.utility.pictures import Gallery, choose
from privbench.victims.class_names import class_names
from privbench.victims.classifier import open_classifier, settings_of
from privbench.victims.preset import parse_settings
from privbench.victims.view import view_of

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


def plan_passes(request: Request, device: torch.device) -> list[Pass]:
    """Return the passes in running order, each with its cases."""
    settings = parse_settings(request.assignments, SECTIONS)
    changes = distribute("model", settings["model"], {n: settings_of(n) for n in request.models})
    opened = [_open(n, changes[n], request.weights, device) for n in request.models]
    shelf = _Shelf(request, settings["dataset"])
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
                fitting = model.restricted(gallery.columns())
                one.cases.append((_case(request, name, one, model), fitting))
    if not passes:
        raise BadSetting(
            "None of these evaluations can be made of these models. Choose --eval accuracy, or "
            "see `privbench list evals`."
        )
    return list(passes.values())


def _own_view(data: type[Dataset], model: Classifier) -> dict[str, Any]:
    """Return settings that show pictures as the model's makers did, where they are not usual."""
    known, usual = data.setting_names(), {"crop": data.usual_crop}
    return {k: v for k, v in model.view.items() if k in known and usual.get(k) != v}


def _open(
    name: str, settings: Mapping[str, Any], weights: str | None, device: torch.device
) -> Classifier:
    """Open a model and learn what its classes are called."""
    model = open_classifier(name, settings, weights, device)
    known = class_names(name, model.weights, weights, model.classes, model.network)
    return replace(model, class_names=tuple(known), view=view_of(name, model.weights))


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
    found: dict[tuple[Any, ...], Gallery] = field(default_factory=dict)

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
        given = settings.get(KEY)
        settings = _own_view(find(Dataset, name), model) | settings
        settings |= source.settings if source else {}
        outside = source is not None and source.outside
        head = Head(model.part.label, classes, model.class_names, model.weights == "init")
        key = (name, str(settings), model.side, classes, head.drawn, *head.names)
        if key not in self.found:
            part, pictures = open_dataset(name, settings, root)
            if not outside and not pictures.labelled():
                raise BadData(
                    f"{name} has no classes, so no answer is right or wrong. Choose --dataset "
                    "cifar10, or a folder with class folders or a labels.csv."
                )
            placed, note = None, ""
            if not outside:
                placed, note = place(part.label, pictures, given, head, strict=True)
                part = with_columns(part, placed)
            count, wished = len(pictures), self.request.images
            if source and wished is not None:
                wished = min(wished, count)
            chosen = choose(count, wished)
            keep = source is None
            self.found[key] = Gallery(
                part, pictures, model.side, classes, chosen, keep, placed, note
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
