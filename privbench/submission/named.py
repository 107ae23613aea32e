"""Whether a record's components are those of this installation, under the names they deserve."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace

from pydantic import ValidationError

from privbench.attack import Attack
from privbench.component import Component, Part, find, label, make
from privbench.dataset import Dataset
from privbench.defense import Defense
from privbench.errors import PrivbenchError
from privbench.evaluation import Evaluation
from privbench.records.case import UNDEFENDED, Case
from privbench.records.sealed import SealedCase
from privbench.records.utility import UtilityCase
from privbench.running.plan import nested_versions, threat_facts, threat_of
from privbench.victims.load import VARIANTS, known_settings
from privbench.victims.preset import FREE, OUTSIDE, model_preset

MARKUP = re.compile(r"<[A-Za-z/!]")
"""How a tag of HTML begins."""

PATH = re.compile(r"[/\\]|^\.+$")
"""What makes a name a path."""

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
        found: list[Fault] = list(_plain(case))
        for look, part in _looks(case):
            key = f"{look.__qualname__} {json.dumps(vars(part), default=str)}"
            if key not in self._known:
                self._known[key] = list(look(part))
            found += self._known[key]
        if isinstance(case, Case):
            found += [*_nested(case), *_control(case), *_threat(case)]
        return found


def _plain(case: SealedCase) -> Iterator[Fault]:
    """Yield what no title and no name of a file may hold."""
    assert isinstance(case, Case | UtilityCase)
    if PATH.search(case.weights):
        yield "label", f"names its weights {case.weights!r}, a place and not a file's name."
    if isinstance(case, Case) and not case.defense:
        yield "component", f"names no defense; an update that none changes has {UNDEFENDED!r}."


def _control(case: Case) -> Iterator[Fault]:
    """Yield that a case is compared with another victim than its own undefended one."""
    try:
        preset = model_preset(case.model.name)
        if preset.control is None:
            if case.control is not None:
                yield "label", f"is compared with {case.control}, and {case.model.name} has none."
            return
        bare = model_preset(preset.control)
        scheme = find(Defense, str(case.model.settings.get("scheme"))).setting_names()
    except PrivbenchError:  # said already
        return
    # one of timm's or the user's own is its own control, without the scheme that was asked of it
    own = {*known_settings(bare)} - {"scheme", *(() if preset.described else scheme)}
    known = [{**p.architecture, **p.settings, **p.initial(), **VARIANTS} for p in (preset, bare)]
    given = {k: v for k, v in case.model.settings.items() if k in own}
    due = {k for k, v in given.items() if all(one.get(k, v) != v for one in known)}
    if not _tells(Part(preset.control, str(case.control), 1, given), due):
        yield (
            "label",
            f"is compared with {case.control}, and the undefended victim of {case.model.label} is "
            f"{preset.control} with the same settings.",
        )


def _threat(case: Case) -> Iterator[Fault]:
    """Yield that a threat model is none, or is not written as a run writes it."""
    try:
        threat = threat_of(case.threat)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        yield "schema", f"has a threat model that is none: {where}, {first['msg']}."
        return
    if (due := threat_facts(threat)) != dict(case.threat):
        names = sorted(k for k in due | dict(case.threat) if due.get(k) != case.threat.get(k))
        yield "label", f"has {', '.join(names)} in its threat model, where a run writes none."


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
