"""A suite becomes jobs: every name and setting is checked before anything runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from os.path import realpath
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError

from privbench.attack import Attack, check
from privbench.component import Component, Part, complaint, find, label, make
from privbench.dataset import Dataset, fingerprint
from privbench.defense import Defense
from privbench.errors import BadSetting, NotGranted, UnknownName
from privbench.records.case import Case
from privbench.running.collection import collection
from privbench.running.heeded import refuse_alone, refuse_steps, unheeded
from privbench.running.jobs import Job, Recipe
from privbench.running.labels import KEY, Head, Placed, place
from privbench.running.product import Entry, Product, distribute
from privbench.running.suite import Suite
from privbench.running.victims import Victims, labelled_load
from privbench.threat import ThreatModel
from privbench.victims.class_names import class_names
from privbench.victims.load import VARIANTS, Victim, known_settings
from privbench.victims.preset import Preset, model_preset, own_label

C = TypeVar("C", bound=Component)
Shelved = tuple[Part, C]


def plan(suite: Suite, device: torch.device, victims: Victims | None = None) -> list[Job]:
    """Return jobs in running order; a suite in which no attack may run is the user's error.

    Victims are built to learn their weights' digest, and stay in the cache for the run.
    """
    cache, jobs = victims or Victims(device), dict[str, Job]()
    pictures: dict[str, Pictures] = {}
    for product in suite.products:
        settings = product.settings["dataset"]
        key = str((product.data_root, product.weights, sorted(settings.items())))
        shared = pictures.setdefault(key, Pictures(product, settings, cache))
        for job in _of_product(product, shared):
            jobs.setdefault(job.case.key, replace(job, suite=suite.label))
    found = list(jobs.values())
    if all(job.refusal for job in found):
        raise NotGranted(str(found[0].refusal))
    return found


def _of_product(product: Product, pictures: "Pictures") -> Iterator[Job]:
    sections = product.settings
    attacks = _shelved(Attack, "attack", product.attack, sections["attack"])
    rows = stacks(product.defense, sections["defense"])
    threat = _threat(product, sections["threat"])
    for of_victim in recipes(product, rows):
        for recipe in of_victim:
            yield from _jobs(product, recipe, attacks, threat, pictures)


class Pictures:
    """Data sets as records name them, and digests of the batches, each computed once."""

    def __init__(self, asked: Product, settings: Mapping[str, Any], victims: Victims) -> None:
        self.asked, self.settings, self.victims = asked, settings, victims
        self.opened: dict[str, Shelved[Dataset]] = {}
        self.placed: dict[tuple[Any, ...], Part] = {}
        self.digests: dict[tuple[Any, ...], str] = {}
        self.collections: dict[str, str] = {}

    def dataset(self, name: str) -> Shelved[Dataset]:
        """Return a data set and how records name it."""
        if name not in self.opened:
            self.opened[name] = open_dataset(name, self.settings, self.asked.data_root)
        return self.opened[name]

    def collection(self, name: str) -> str:
        """Return what tells a data set of the user's from others of its name."""
        if name not in self.collections:
            self.collections[name] = collection(self.dataset(name)[1])
        return self.collections[name]

    def part(self, name: str, victim: Victim, model: str) -> Part:
        """Return a data set as records name it, with the victim's columns of its classes."""
        vit = victim.model.vit
        known = class_names(model, victim.weights, self.asked.weights, vit.classes, vit.backbone)
        key = (name, vit.classes, *known)
        if key not in self.placed:
            part, made = self.dataset(name)
            head = Head(own_label(model), vit.classes, known, victim.weights == "init")
            placed, _ = place(part.label, made, self.settings.get(KEY), head)
            self.placed[key] = with_columns(part, placed)
        return self.placed[key]

    def digest(self, part: Part, chosen: tuple[int, ...], side: int, classes: int) -> str:
        """Return the digest of a batch as a victim of this size is shown it."""
        key = (part.name, str(part.settings.get(KEY)), chosen, side, classes)
        if key not in self.digests:
            made = self.dataset(part.name)[1]
            self.digests[key] = fingerprint(*labelled_load(made, part, chosen, side, classes))
        return self.digests[key]


def _jobs(
    product: Product,
    recipe: Recipe,
    attacks: Sequence[Shelved[Attack]],
    threat: ThreatModel,
    pictures: Pictures,
) -> Iterator[Job]:
    """Every attack on a batch, then the next batch: a run that is cut short is balanced."""
    victim, preset = pictures.victims.get(recipe), model_preset(recipe.model)
    vit, size = victim.model.vit, threat.held * threat.clients
    name = product.dataset or preset.dataset
    refuse_alone(threat, len(pictures.dataset(name)[1]), name)
    model = model_part(recipe.model, recipe.settings, victim)
    control = control_of(preset, recipe.settings)
    dataset = pictures.part(name, victim, recipe.model)
    refusals = {part.label: _refusal(one, part.name, threat, victim) for part, one in attacks}
    nested = {part.label: nested_versions(one) for part, one in attacks}
    for start in range(0, len(product.indices), size):
        chosen = tuple(product.indices[start : start + size])
        for part, _ in attacks:
            case = Case(
                model=model,
                control=control,
                weights=victim.weights,
                weights_sha256=victim.weights_sha256,
                defense=recipe.defenses,
                attack=part,
                dataset=dataset,
                images=chosen,
                images_sha256=pictures.digest(dataset, chosen, vit.side, vit.classes),
                threat=threat_facts(threat),
                seed=product.seed,
                nested=nested[part.label],
            )
            yield Job(
                case,
                recipe,
                threat,
                product.data_root,
                data=pictures.collection(name),
                refusal=refusals[part.label],
                guess=product.seconds,
            )


def nested_versions(attack: Attack) -> dict[str, int]:
    """Return versions, by name, of the attacks that an attack runs inside, at any depth."""
    found: dict[str, int] = {}
    for name in attack.nested():
        found[name] = find(Attack, name).version
        found |= nested_versions(make(Attack, name, {}))
    return dict(sorted(found.items()))


def threat_facts(threat: ThreatModel) -> dict[str, Any]:
    """Return a threat model as records hold it: what it grants, and what is not the default."""
    given, default = asdict(threat), asdict(ThreatModel())
    changed = {name: value for name, value in given.items() if value != default[name]}
    return changed | {"knows": sorted(threat.knows), "batch_size": threat.batch_size}


def threat_of(given: Mapping[str, Any]) -> ThreatModel:
    """Return the threat model of settings, or of what records hold; raises ValidationError."""
    return TypeAdapter(ThreatModel).validate_python(dict(given))


def _refusal(attack: Attack, name: str, threat: ThreatModel, victim: Victim) -> str | None:
    try:
        vit = victim.model.vit
        check(attack, name, threat.knows, victim.shared(), vit, threat.protocol)
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
    return unheeded(attack, name, threat, victim)


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


def stacks(entries: Sequence[Entry], settings: Mapping[str, Any]) -> list[list[Shelved[Defense]]]:
    """Split a+b into the defenses that one update passes through."""
    split = [
        [Entry(name=n.strip(), settings=e.settings) for n in e.name.split("+")] for e in entries
    ]
    flat = [entry for row in split for entry in row]
    made = iter(_shelved(Defense, "defense", flat, settings))
    return [[next(made) for _ in row] for row in split]


def recipes(product: Product, rows: Sequence[Sequence[Shelved[Defense]]]) -> list[list[Recipe]]:
    """Return for each victim, with the settings meant for it, a recipe under each row of defenses.

    Raises a PrivbenchError for a victim or a setting that is none.
    """
    parts = [tuple(part for part, _ in row) for row in rows]
    presets = {entry.name: model_preset(entry.name) for entry in product.model}
    known = {name: known_settings(preset) for name, preset in presets.items()}
    changes = distribute("model", product.settings["model"], known)
    return [
        [
            Recipe(entry.name, changes[entry.name] | dict(entry.settings), row, product.weights)
            for row in parts
        ]
        for entry in product.model
    ]


def _threat(product: Product, settings: Mapping[str, Any]) -> ThreatModel:
    UnknownName.refuse("setting of threat", settings, ThreatModel.__dataclass_fields__)
    given = {"batch_size": product.batch_size, **settings}
    if isinstance(given.get("knows"), str):
        given["knows"] = [one.strip() for one in given["knows"].split(",") if one.strip()]
    try:
        threat = threat_of(given)
    except ValidationError as error:
        raise BadSetting(complaint("threat", error)) from None
    if threat.batch_size != product.batch_size:
        raise BadSetting("Set the batch size with --batch-size, not with --set threat.batch_size.")
    refuse_steps(threat, given, len(product.indices))
    return threat


def open_dataset(name: str, settings: Mapping[str, Any], root: Path | None) -> Shelved[Dataset]:
    """Return a data set and how records name it; what its classes are is the harness's affair."""
    given = {key: value for key, value in settings.items() if key != KEY}
    if root is not None:
        given["root"] = root
    made = make(Dataset, name, given)
    # A folder's place is the user's own affair: records know its name and its content's hash.
    inside = {k: v for k, v in made.settings().items() if k != "root" and v is not None}
    changed = {key: value for key, value in made.changed().items() if key != "root"}
    changed |= {KEY: settings[KEY]} if KEY in settings else {}
    at = f"@{Path(realpath(made.root)).name}" if made.root is not None else ""
    return Part(name, label(name + at, changed), type(made).version, inside), made


def with_columns(part: Part, placed: Placed | None) -> Part:
    """Return how records name a data set whose classes were found among a model's."""
    return part if placed is None else replace(part, settings={**part.settings, KEY: dict(placed)})


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
    bare = () if preset.described else tuple(find(Defense, _scheme(changed)).setting_names())
    own = [k for k in known_settings(control) if k not in ("scheme", *bare)]
    same = {k: v for k, v in changed.items() if k in own}
    default = {**control.architecture, **control.settings, **control.initial(), **VARIANTS}
    return label(preset.control, {k: v for k, v in same.items() if default.get(k, ...) != v})
