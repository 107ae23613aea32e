"""What is to be priced: names, settings and pictures are checked before anything runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from os.path import realpath
from pathlib import Path
from typing import Any

from torch import Tensor

from privbench.component import Part, find, label
from privbench.dataset import Dataset
from privbench.errors import BadData, BadSetting, BadWeights
from privbench.price.protocol import PROTOCOL, Form, part
from privbench.price.start import require, start
from privbench.records.asked import Asked
from privbench.records.case import UNDEFENDED
from privbench.records.price import PriceCase
from privbench.running.jobs import Recipe
from privbench.running.plan import control_of, model_part, recipes, stacks
from privbench.running.product import Entry, Product
from privbench.running.victims import Victims
from privbench.training.split import Split, read_split
from privbench.victims.class_names import class_names
from privbench.victims.load import Victim
from privbench.victims.preset import model_preset
from privbench.victims.weights import digest


class Request(Product):
    """Victims and defenses; attacks and pictures of a suite file are left."""

    attack: Any = ()


@dataclass(frozen=True)
class Pictures:
    """A data set's two splits, read, and their digests."""

    part: Part
    train: Split
    test: Split
    train_sha256: str
    images_sha256: str


@dataclass(frozen=True)
class Task:
    """One case, and what its record does not say because it decides nothing."""

    case: PriceCase
    recipe: Recipe
    start: Mapping[str, Tensor]
    """The undefended victim's weights before the first step."""
    train: Split
    test: Split
    notes: tuple[str, ...]

    @property
    def asked(self) -> Asked:
        """Under which name its pictures were asked for."""
        return Asked(self.case.dataset.label)

    @property
    def title(self) -> str:
        """What a reader calls it."""
        return f"{self.case.model.label} with {self.case.defended}"


def plan(request: Request, form: Form, victims: Victims) -> list[Task]:
    """Return tasks in running order, for each victim the undefended one first.

    Raises a PrivbenchError for what cannot be.
    """
    request.refuse_attacks(
        f"A price is that of {PROTOCOL.clients} clients with {PROTOCOL.pictures} pictures each, "
        "whatever attacks do."
    )
    entries = (Entry(name=UNDEFENDED), *(e for e in request.defense if e.name != UNDEFENDED))
    made = recipes(request, stacks(entries, request.settings["defense"]))
    opened: dict[tuple[str, int, int], Pictures] = {}
    found: dict[str, Task] = {}
    for of_victim in made:
        plain = of_victim[0]
        bare = victims.get(plain)
        weights, share = start(plain, bare, victims, PROTOCOL.start)
        for recipe in of_victim:
            _require(recipe, victims, weights)
        vit, name = bare.model.vit, request.dataset or model_preset(plain.model).dataset
        key = (name, vit.side, vit.classes)
        if key not in opened:
            opened[key] = _pictures(name, request, key[1:])
        _check_pictures(plain, bare, opened[key])
        for recipe in of_victim:
            victim = victims.get(recipe)
            case = _case(request, form, recipe, victim, opened[key], part(form, share), weights)
            splits = opened[key].train, opened[key].test
            notes = [*victim.notes, *(one.complaint() for one in splits if one.unreadable)]
            found.setdefault(case.key, Task(case, recipe, weights, *splits, tuple(notes)))
    return list(found.values())


def _case(
    request: Request,
    form: Form,
    recipe: Recipe,
    victim: Victim,
    pictures: Pictures,
    price: Part,
    weights: Mapping[str, Tensor],
) -> PriceCase:
    return PriceCase(
        price=price,
        model=model_part(recipe.model, recipe.settings, victim),
        control=control_of(model_preset(recipe.model), recipe.settings),
        weights=victim.weights,
        weights_sha256=victim.weights_sha256,
        start_sha256=digest(weights),
        defense=recipe.defenses,
        dataset=pictures.part,
        train_sha256=pictures.train_sha256,
        images_sha256=pictures.images_sha256,
        n=min(form.tested, len(pictures.test)),
        seed=request.seed,
    )


def _require(recipe: Recipe, victims: Victims, weights: Mapping[str, Tensor]) -> None:
    """Refuse a defense that the protocol cannot train under."""
    name = "+".join(one.label for one in recipe.defenses)
    try:
        victim = victims.get(recipe)
    except BadWeights:
        raise BadSetting(
            f"{name} decides what weights are made for, and those of {recipe.model} were made "
            "without it, so the two have no start in common. Add --weights init, or price a victim "
            "that was trained with it (`privbench list models`)."
        ) from None
    if not victim.shared():
        raise BadSetting(
            f"Under {name} clients of {recipe.model} share nothing, so no server learns anything, "
            "and there is no price. Choose a defense that shares a part."
        )
    if victim.model.defense.feeds_back:
        raise BadSetting(
            f"{name} adds what an update left out to the next one, and a price takes every update "
            "for a client's first. Price it without feedback, which costs no less."
        )
    require(victim.model.vit, weights, name)


def _pictures(name: str, request: Request, size: tuple[int, int]) -> Pictures:
    """Open and read both splits; records know a folder by its name alone."""
    root, settings = request.data_root, request.settings["dataset"]
    first, second = (
        read_split(name, root, split, dict(settings), *size) for split in ("train", "test")
    )
    if not first.pictures.labelled():
        raise BadData(
            f"{name} has no classes to learn: put the pictures into train/CLASS and test/CLASS, or "
            "write a labels.csv."
        )
    for split in (first, second):
        if split.kept is not None:
            split.read_through(lambda done, total: None)
    at = f"@{Path(realpath(root)).name}" if root is not None else ""
    own = Part(name, label(name + at, settings), find(Dataset, name).version, dict(settings))
    return Pictures(own, first, second, first.fingerprint(), second.fingerprint())


def _check_pictures(recipe: Recipe, victim: Victim, pictures: Pictures) -> None:
    """Refuse pictures whose labels are other columns of the victim's head, and too few of them."""
    vit, own = victim.model.vit, pictures.train.pictures.class_names()
    known = class_names(recipe.model, victim.weights, recipe.weights, vit.classes, vit.backbone)
    if known and own and list(own) != list(known):
        raise BadData(
            f"{recipe.model} knows the classes {', '.join(known[:3])} and so on, and "
            f"{pictures.part.name} has {', '.join(own[:3])}. Take the pictures that it was trained "
            "on, or --weights init."
        )
    if len(pictures.train) < PROTOCOL.batch:
        raise BadData(
            f"A step takes {PROTOCOL.batch} pictures, and {pictures.part.name} has "
            f"{len(pictures.train)} to train on. Name a folder with more of them by "
            "--data-root PATH."
        )
