"""What is to be measured, and the pictures that it takes, each set opened once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from privbench.classifier import Classifier
from privbench.component import find
from privbench.dataset import Dataset
from privbench.errors import BadData, BadSetting, UnknownName
from privbench.evaluation import Evaluation, Source
from privbench.running.labels import KEY, Head, place
from privbench.running.plan import open_dataset, with_columns
from privbench.utility.pictures import Gallery, Report, choose

OUTSIDE = 1000
"""Classes that a data set may have whose labels mean nothing."""


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
class Shelf:
    """Data sets that were opened, each once for every size and number of classes."""

    request: Request
    settings: Mapping[str, Any]
    report: Report
    found: dict[tuple[Any, ...], Gallery] = field(default_factory=dict)
    used: set[Path | None] = field(default_factory=set)
    """Folders that some pass reads."""

    def at_hand(self, evaluation: Evaluation, model: Classifier) -> bool:
        """Say whether what a standard evaluation needs was named, or comes along."""
        if evaluation.brings or self.request.dataset or self.request.data_root:
            return True
        root = self.request.roots.get(model.dataset)
        pictures = open_dataset(model.dataset, self._settings_of(model.dataset), root)[1]
        try:
            return len(pictures) > 0 and pictures.labelled()
        except BadSetting:  # it needs a folder
            return False

    def refuse_unused(self) -> None:
        """Refuse folders, a data set and settings of it that no pass heeds; raises BadSetting."""
        request, opened = self.request, {name for name, *_ in self.found}
        options = {f"--{name.replace('_', '-')}": root for name, root in request.roots.items()}
        idle = [option for option, root in options.items() if root not in self.used]
        idle += ["--data-root"] if request.data_root and request.data_root not in self.used else []
        idle += ["--dataset"] if request.dataset and request.dataset not in opened else []
        if idle:
            raise BadSetting(
                f"{' and '.join(idle)} would change nothing: these evaluations bring pictures of "
                f"{' and '.join(sorted(opened))}. Leave it out, or add --eval accuracy."
            )
        known = {KEY} | {k for name in opened for k in find(Dataset, name).setting_names()}
        UnknownName.refuse(f"setting of {' and '.join(sorted(opened))}", self.settings, known)

    def _settings_of(self, name: str) -> dict[str, Any]:
        asked = self.request.dataset
        known = find(Dataset, name).setting_names()
        return {k: v for k, v in self.settings.items() if name == asked or k in known}

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
        settings = self._settings_of(name)
        given = settings.get(KEY)
        settings = _own_view(find(Dataset, name), model) | settings
        settings |= source.settings if source else {}
        outside = source is not None and source.outside
        head = Head(model.part.label, classes, model.class_names, model.weights == "init")
        self.used.add(root)
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
                part,
                pictures,
                model.side,
                classes,
                chosen,
                keep,
                placed,
                note,
                report=self.report,
            )
        return self.found[key]


def _own_view(data: type[Dataset], model: Classifier) -> dict[str, Any]:
    """Return settings that show pictures as the model's makers did, where they are not usual."""
    known, usual = data.setting_names(), {"crop": data.usual_crop}
    return {k: v for k, v in model.view.items() if k in known and usual.get(k) != v}
