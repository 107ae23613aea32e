"""Whether a record's components are those of this installation, under the names they deserve."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace

from privbench.attack import Attack
from privbench.component import Component, Part, find, label, make
from privbench.dataset import Dataset
from privbench.defense import Defense
from privbench.errors import PrivbenchError
from privbench.evaluation import Evaluation
from privbench.records.case import Case
from privbench.records.sealed import SealedCase
from privbench.records.utility import UtilityCase
from privbench.running.plan import nested_versions
from privbench.victims.load import VARIANTS
from privbench.victims.preset import FREE, OUTSIDE, model_preset

MARKUP = re.compile(r"<[A-Za-z/!]")
"""How a tag of HTML begins."""

Fault = tuple[str, str]


class Naming:
    """Compares components with this installation's, each of them once."""

    def __init__(self) -> None:
        self._known: dict[str, list[Fault]] = {}

    def faults(self, case: SealedCase) -> list[Fault]:
        """Return kind and sentence of what is wrong with a case's components and their labels."""
        titles = {one.label for one in case.parts()}
        titles |= {str(getattr(case, name, "")) for name in ("weights", "control")}
        if marked := sorted(one for one in titles if MARKUP.search(one)):
            title = "a title is a name and its settings"
            return [("label", f"has HTML in a title, {marked[0]!r}: {title}.")]
        found: list[Fault] = []
        for look, part in _looks(case):
            key = f"{look.__qualname__} {json.dumps(vars(part), default=str)}"
            if key not in self._known:
                self._known[key] = list(look(part))
            found += self._known[key]
        return found + (list(_nested(case)) if isinstance(case, Case) else [])


def _looks(case: SealedCase) -> Iterator[tuple[Callable[[Part], Iterable[Fault]], Part]]:
    if isinstance(case, Case):
        yield _attack, case.attack
        for one in case.defense:
            yield _defense, one
        yield _dataset, case.dataset
        yield _model, case.model
    elif isinstance(case, UtilityCase):
        yield _evaluation, case.evaluation
        yield _dataset, case.dataset
        yield _model, case.model


def _attack(part: Part) -> Iterator[Fault]:
    yield from _component(Attack, part)


def _defense(part: Part) -> Iterator[Fault]:
    yield from _component(Defense, part)


def _evaluation(part: Part) -> Iterator[Fault]:
    yield from _component(Evaluation, part)


def _component(base: type[Component], part: Part) -> Iterator[Fault]:
    try:
        made = make(base, part.name, part.settings)
    except PrivbenchError as error:
        yield "component", f"is of a component that this installation has not: {error}"
        return
    yield from _version(part, type(made))
    if (due := label(part.name, made.changed())) != part.label:
        yield "label", f"calls {part.label!r} what its settings make {due!r}."


def _version(part: Part, kind: type[Component]) -> Iterator[Fault]:
    if part.version != kind.version:
        age = "older" if part.version < kind.version else "newer"
        yield (
            "component",
            f"is of version {part.version} of {part.name}, {age} than version {kind.version} here.",
        )


def _nested(case: Case) -> Iterator[Fault]:
    try:
        due = nested_versions(make(Attack, case.attack.name, case.attack.settings))
    except PrivbenchError:  # said already
        return
    if dict(case.nested) != due:
        names = [n for n in due | dict(case.nested) if due.get(n) != case.nested.get(n)]
        yield (
            "component",
            f"ran other versions of {', '.join(names)} inside {case.attack.name} than are here.",
        )


def _dataset(part: Part) -> Iterator[Fault]:
    try:
        kind = find(Dataset, part.name)
    except PrivbenchError as error:
        yield "component", f"is of a component that this installation has not: {error}"
        return
    yield from _version(part, kind)
    default = {one.name: one.default for one in fields(kind)}  # type: ignore[arg-type]
    due = [key for key, value in default.items() if part.settings.get(key, value) != value]
    if not _tells(part, due):
        yield "label", f"calls {part.label!r} what is the data set {part.name}."


def _model(part: Part) -> Iterator[Fault]:
    scheme = str(part.settings.get("scheme"))
    try:
        kind = find(Defense, scheme)
        preset = model_preset(part.name)
    except PrivbenchError as error:
        yield "component", f"is of a victim that this installation has not: {error}"
        return
    yield from _version(replace(part, name=scheme), kind)
    default = {one.name: one.default for one in fields(kind)}  # type: ignore[arg-type]
    default |= {"scheme": preset.scheme, **preset.architecture, **preset.settings}
    default |= {**preset.initial(), **VARIANTS}
    always = FREE if preset.described else OUTSIDE
    due = [k for k, v in part.settings.items() if default.get(k, None if k in always else v) != v]
    if not _tells(part, due):
        yield "label", f"calls {part.label!r} what is {part.name} with other settings."


def _tells(part: Part, due: Iterable[str]) -> bool:
    """Say whether a label is the name and settings, all those that are due among them.

    The order of settings is the user's, and a folder's name may stand behind the data set's.
    """
    head, bracket, inside = part.label.partition("(")
    if head.partition("@")[0] != part.name or bool(bracket) != inside.endswith(")"):
        return False
    inside, needed = f", {inside[:-1]}" if bracket else "", set(due)
    for key, value in part.settings.items():
        forms = [value, tuple(value)] if isinstance(value, list) else [value]
        words = [one for one in (f", {key}={form}" for form in forms) if one in inside]
        if not words and key in needed:
            return False
        for one in words[:1]:
            inside = inside.replace(one, "", 1)
    return not inside
