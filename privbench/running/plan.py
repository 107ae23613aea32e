"""A suite becomes jobs: every name and setting is checked before anything runs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Int
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from privbench.attack import Attack, check
from privbench.component import Component, Part, complaint, find, label, make
from privbench.dataset import Dataset, fingerprint
from privbench.defense import Defense
from privbench.errors import BadSetting, NotGranted, UnknownName
from privbench.records.case import Case
from privbench.running.suite import Entry, Suite, distribute
from privbench.threat import Images, ThreatModel
from privbench.victims.load import VARIANTS, Victim, known_settings, load
from privbench.victims.preset import Preset, model_preset, own_label

C = TypeVar("C", bound=Component)
OF_STEPS = ("local_rate", "momentum")
"""Settings of the threat model that only several local steps heed."""
Shelved = tuple[Part, C]


@dataclass(frozen=True)
class Job:
    """A case and all that it takes to run it."""

    case: Case
    cell: int
    """Jobs of one cell have one victim and follow each other."""
    attack: Attack
    threat: ThreatModel
    images: Images
    labels: Int[Tensor, " b"]
    victim: Callable[[], Victim]
    refusal: str | None
    """Why the attack cannot run here, or None."""


def plan(suite: Suite, device: torch.device) -> list[Job]:
    """Return jobs in running order; a suite in which no attack may run is the user's error."""
    sections = suite.settings
    attacks = _shelved(Attack, "attack", suite.attack, sections["attack"])
    stacks = _stacks(suite.defense, sections["defense"])
    threat = _threat(suite, sections["threat"])
    presets = {entry.name: model_preset(entry.name) for entry in suite.model}
    known = {name: known_settings(preset) for name, preset in presets.items()}
    changes = distribute("model", sections["model"], known)
    cells = [
        (entry.name, changes[entry.name] | dict(entry.settings), stack)
        for entry in suite.model
        for stack in stacks
    ]

    @lru_cache(maxsize=2)  # victims are large; jobs of one follow each other
    def victim(cell: int) -> Victim:
        name, changed, stack = cells[cell]
        return load(name, changed, tuple(d for _, d in stack), suite.weights, device)

    jobs: dict[str, Job] = {}
    for number, (name, changed, stack) in enumerate(cells):
        dataset = suite.dataset or presets[name].dataset
        shelf = open_dataset(dataset, sections["dataset"], suite.data_root)
        subject = _Subject(
            model_part(name, changed, victim(number)),
            control_of(presets[name], changed),
            tuple(part for part, _ in stack),
            victim(number),
        )
        for case, attack, images, labels in _cases(suite, subject, attacks, shelf, threat):
            refusal = _refusal(attack, case.attack.name, threat, victim(number))
            job = Job(
                case, number, attack, threat, images, labels, partial(victim, number), refusal
            )
            jobs.setdefault(case.key, job)
    found = list(jobs.values())
    if all(job.refusal for job in found):
        raise NotGranted(found[0].refusal)
    return found


@dataclass(frozen=True)
class _Subject:
    """What is attacked, as its cases name it."""

    model: Part
    control: str | None
    defense: tuple[Part, ...]
    victim: Victim


def _cases(
    suite: Suite,
    subject: _Subject,
    attacks: Sequence[Shelved[Attack]],
    shelf: Shelved[Dataset],
    threat: ThreatModel,
) -> Iterator[tuple[Case, Attack, Images, Int[Tensor, " b"]]]:
    """Every attack on a batch, then the next batch: a run that is cut short is balanced."""
    vit = subject.victim.model.vit
    size = suite.batch_size
    for start in range(0, len(suite.indices), size):
        chosen = tuple(suite.indices[start : start + size])
        images, labels = shelf[1].load(chosen, vit.side, vit.classes)
        digest = fingerprint(images, labels)
        for part, attack in attacks:
            case = Case(
                model=subject.model,
                control=subject.control,
                weights=subject.victim.weights,
                weights_sha256=subject.victim.weights_sha256,
                defense=subject.defense,
                attack=part,
                dataset=shelf[0],
                images=chosen,
                images_sha256=digest,
                threat=threat_facts(threat),
                seed=suite.seed,
            )
            yield case, attack, images, labels


def threat_facts(threat: ThreatModel) -> dict[str, Any]:
    """Return a threat model as records hold it: what it grants, and what is not the default."""
    given, default = asdict(threat), asdict(ThreatModel())
    changed = {name: value for name, value in given.items() if value != default[name]}
    return changed | {"knows": sorted(threat.knows), "batch_size": threat.batch_size}


def _refusal(attack: Attack, name: str, threat: ThreatModel, victim: Victim) -> str | None:
    try:
        check(attack, name, threat.knows, victim.shared(), victim.model.vit)
    except NotGranted as error:
        return str(error)
    if attack.malicious and threat.server != "malicious":
        return (
            f"Attack '{name}' sends the client weights of its own; this threat model's server is "
            "honest but curious. Add `--set threat.server=malicious` or choose another attack "
            "(`privbench list attacks`)."
        )
    known = {**VARIANTS, **victim.settings}
    for key, value in attack.demands.items():
        if known.get(key) != value:
            return (
                f"Attack '{name}' works only where the model's {key} is {value}, and this one's is "
                f"{known.get(key)}. Add `--set model.{key}={value}` or choose another attack "
                "(`privbench list attacks`)."
            )
    return None


def part_of(name: str, made: Component) -> Part:
    """Return a component as records name it."""
    return Part(name, label(name, made.changed()), type(made).version, made.settings())


def _shelved(
    base: type[C], section: str, entries: Sequence[Entry], settings: Mapping[str, Any]
) -> list[Shelved[C]]:
    """Build components of one shelf, each with the settings meant for it."""
    known = {entry.name: find(base, entry.name).setting_names() for entry in entries}
    given = distribute(section, settings, known)
    made = [
        (entry.name, make(base, entry.name, given[entry.name] | dict(entry.settings)))
        for entry in entries
    ]
    return [(part_of(name, one), one) for name, one in made]


def _stacks(entries: Sequence[Entry], settings: Mapping[str, Any]) -> list[list[Shelved[Defense]]]:
    """Split a+b into the defenses that one update passes through."""
    split = [
        [Entry(name=n.strip(), settings=e.settings) for n in e.name.split("+")] for e in entries
    ]
    flat = [entry for row in split for entry in row]
    made = iter(_shelved(Defense, "defense", flat, settings))
    return [[next(made) for _ in row] for row in split]


def _threat(suite: Suite, settings: Mapping[str, Any]) -> ThreatModel:
    UnknownName.refuse("setting of threat", settings, ThreatModel.__dataclass_fields__)
    given = {"batch_size": suite.batch_size, **settings}
    if isinstance(given.get("knows"), str):
        given["knows"] = [one.strip() for one in given["knows"].split(",") if one.strip()]
    try:
        threat = TypeAdapter(ThreatModel).validate_python(given)
    except ValidationError as error:
        raise BadSetting(complaint("threat", error)) from None
    if threat.batch_size != suite.batch_size:
        raise BadSetting("Set the batch size with --batch-size, not with --set threat.batch_size.")
    if threat.local_steps == 1 and (idle := [k for k in OF_STEPS if k in given]):
        raise BadSetting(
            f"threat: one local step shares the gradient itself, whatever {' and '.join(idle)} "
            "say. Add `--set threat.local_steps=5`, or leave them out."
        )
    return threat


def open_dataset(name: str, settings: Mapping[str, Any], root: Path | None) -> Shelved[Dataset]:
    """Return a data set and how records name it."""
    given = dict(settings)
    if root is not None:
        given["root"] = root
    made = make(Dataset, name, given)
    # A folder's place is the user's own affair: records know its name and its content's hash.
    inside = {key: value for key, value in made.settings().items() if key != "root"}
    changed = {key: value for key, value in made.changed().items() if key != "root"}
    at = f"@{made.root.resolve().name}" if made.root is not None else ""
    return Part(name, label(name + at, changed), type(made).version, inside), made


def model_part(name: str, changed: Mapping[str, Any], victim: Victim) -> Part:
    """Return a victim as records name it."""
    preset = victim.preset
    default = {**preset.architecture, **preset.settings, **preset.initial(), **VARIANTS}
    differs = {k: v for k, v in changed.items() if default.get(k, ...) != v}
    version = find(Defense, preset.scheme).version
    name = own_label(name)
    return Part(name, label(name, differs), version, {"scheme": preset.scheme, **victim.settings})


def _scheme(changed: Mapping[str, Any]) -> str:
    return str(changed.get("scheme", Preset.model_fields["scheme"].default))


def control_of(preset: Preset, changed: Mapping[str, Any]) -> str | None:
    """Label of the undefended victim with the same changes, where they concern it."""
    if preset.control is None:
        return None
    control = model_preset(preset.control)
    # one of timm's or the user's own is its own control, without the scheme that was asked of it
    described = preset.timm is None and not preset.own
    bare = () if described else tuple(find(Defense, _scheme(changed)).setting_names())
    own = [k for k in known_settings(control) if k not in ("scheme", *bare)]
    same = {k: v for k, v in changed.items() if k in own}
    default = {**control.architecture, **control.settings, **control.initial(), **VARIANTS}
    return label(preset.control, {k: v for k, v in same.items() if default.get(k, ...) != v})
