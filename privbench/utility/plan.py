"""A request becomes passes: names, settings and folders are checked before any pass runs."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from privbench.classifier import Classifier
from privbench.component import Part, find, label, make, names
from privbench.errors import BadSetting
from privbench.evaluation import Condition, Evaluation
from privbench.records.asked import Asked
from privbench.records.utility import UtilityCase
from privbench.running.plan import part_of
from privbench.running.product import distribute
from privbench.utility.pictures import Gallery, Report, silent
from privbench.utility.shelf import Request, Shelf
from privbench.victims.class_names import class_names
from privbench.victims.classifier import open_classifier, settings_of
from privbench.victims.preset import parse_settings
from privbench.victims.view import view_of

SECTIONS = ("dataset", "eval", "model")

Named = tuple[str, Evaluation]


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
    opened = [_open(n, changes[n], request.weights, device) for n in request.models]
    shelf = Shelf(request, settings["dataset"], report)
    passes: dict[tuple[Any, ...], Pass] = {}
    pairs: list[tuple[str, Pass, Classifier]] = []
    wanted = _wanted(request, settings["eval"], opened)
    by_name = any(one.brings for _, one in wanted)  # a folder says what to measure
    for name, evaluation in wanted:
        for condition in evaluation.conditions():
            for model in opened:
                if evaluation.of_victims and model.public is None:
                    _refuse_asked(request, name, model)
                    continue
                if by_name and name not in request.evals and not shelf.at_hand(evaluation, model):
                    continue
                gallery = shelf.gallery(name, evaluation.source(condition), model)
                if gallery is None:
                    continue
                key = (name, str(condition), id(gallery))
                one = passes.setdefault(key, Pass(evaluation, condition, gallery))
                pairs.append((name, one, model))
    if not passes:
        raise BadSetting(
            "None of these evaluations can be made of these models. Choose --eval accuracy, or "
            "see `privbench list evals`."
        )
    shelf.refuse_unused()
    if request.seed and not any(one.evaluation.random for one in passes.values()):
        raise BadSetting(
            "--seed changes nothing here: none of these evaluations draws at random. Leave it out."
        )
    for name, one, model in pairs:  # only now are pictures read
        fitting = model.restricted(one.gallery.columns())
        one.cases.append((_case(request, name, one, model), fitting))
    return list(passes.values())


def _open(
    name: str, settings: Mapping[str, Any], weights: str | None, device: torch.device
) -> Classifier:
    """Open a model and learn what its classes are called."""
    model = open_classifier(name, settings, weights, device)
    known = class_names(name, model.weights, weights, model.classes, model.network)
    return replace(model, class_names=tuple(known), view=view_of(name, model.weights))


def _refuse_asked(request: Request, name: str, model: Classifier) -> None:
    """Refuse an evaluation that was asked for by name; raises BadSetting."""
    if name in request.evals:
        raise BadSetting(
            f"{name} moves patches and position embeddings, which only victims have, and "
            f"{model.part.label} is none. Leave {name} out of --eval, or that model out of --model."
        )


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
        chosen += _suiting(shelf, sets)
    chosen += [name for name, kind in shelf.items() if kind.brings in request.roots]
    chosen = list(dict.fromkeys(chosen))
    known = {name: find(Evaluation, name).setting_names() for name in chosen}
    given = distribute("eval", settings, known)
    return [(name, make(Evaluation, name, given[name])) for name in chosen]


def _suiting(shelf: Mapping[str, type[Evaluation]], sets: set[str]) -> list[str]:
    """Return the tests of robustness for a data set; raises BadSetting where there is none."""
    suits = {name: kind.suits for name, kind in shelf.items() if kind.suits and not kind.brings}
    if found := [name for name, suited in suits.items() if {suited} == sets]:
        return found
    whose = f"pictures of {' and '.join(sorted(set(suits.values())))}"
    if len(sets) > 1:
        raise BadSetting(
            f"--robustness corrupts {whose}, and these models are measured on "
            f"{' and '.join(sorted(sets))}. Add --dataset NAME, or measure them one by one."
        )
    names_ = " or ".join(f"--eval accuracy,{name}" for name in suits)
    raise BadSetting(
        f"--robustness corrupts {whose}, and {min(sets)} is neither. Leave it out, or "
        f"name the recipe of the corruptions: {names_}."
    )


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
