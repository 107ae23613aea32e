"""What is to be bounded: names, settings and pictures are checked before anything runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from privbench.bounds.ceiling import unheard
from privbench.component import Part, make
from privbench.defense import Defense
from privbench.errors import BadSetting
from privbench.records.asked import Asked
from privbench.records.bound import BoundCase
from privbench.running.jobs import Recipe
from privbench.running.plan import Pictures, control_of, model_part, recipes, stacks
from privbench.running.product import Product
from privbench.running.victims import Victims
from privbench.victims.load import Victim
from privbench.victims.preset import model_preset

BOUND = Part("local_gaussian", "local_gaussian", 4, {})
"""How it is computed; a change of its figures, or of the prior, is a new version."""
MOST = 128**2
"""Numbers of a picture whose square matrices fit into 16 GB, four of them in float64."""


class Request(Product):
    """Victims and defenses, each on every picture by itself; attacks of a suite file are left."""

    attack: Any = ()


@dataclass(frozen=True)
class Task:
    """One case, and what its record does not say because it decides nothing."""

    case: BoundCase
    recipe: Recipe
    data_root: Path | None
    data: str
    """Digest of the user's data set; empty for one that comes along."""
    notes: tuple[str, ...]

    @property
    def asked(self) -> Asked:
        """Under which name its picture was asked for."""
        return Asked(self.case.dataset.label, self.data)


def plan(request: Request, victims: Victims) -> list[Task]:
    """Return tasks in running order; raises a PrivbenchError for what cannot be."""
    request.refuse_attacks(
        "A ceiling is that of one picture in one plain step, whatever attacks do."
    )
    sections = request.settings
    made = recipes(request, stacks(request.defense, sections["defense"]))
    pictures = Pictures(request, sections["dataset"], victims)
    found: dict[str, Task] = {}
    for of_victim in made:
        for number in request.indices:
            for recipe in of_victim:
                task = _task(request, recipe, number, pictures, victims)
                found.setdefault(task.case.key, task)
    return list(found.values())


def _task(
    request: Request, recipe: Recipe, number: int, pictures: Pictures, victims: Victims
) -> Task:
    victim, preset = victims.get(recipe), model_preset(recipe.model)
    vit, name = victim.model.vit, request.dataset or preset.dataset
    _require(victim, recipe)
    dataset = pictures.part(name, victim, recipe.model)
    case = BoundCase(
        bound=BOUND,
        model=model_part(recipe.model, recipe.settings, victim),
        control=control_of(preset, recipe.settings),
        weights=victim.weights,
        weights_sha256=victim.weights_sha256,
        defense=recipe.defenses,
        dataset=dataset,
        images=(number,),
        images_sha256=pictures.digest(dataset, (number,), vit.side, vit.classes),
        seed=request.seed,
    )
    return Task(case, recipe, request.data_root, pictures.collection(name), _notes(recipe, victim))


def _require(victim: Victim, recipe: Recipe) -> None:
    vit, defense = victim.model.vit, victim.model.defense
    size = 3 * vit.side**2
    if size > MOST:
        raise BadSetting(
            f"A picture of {vit.side} px has {size} numbers, whose covariance would fill "
            f"{8 * size**2 / 1e9:.0f} GB. Choose a victim of at most {int((MOST / 3) ** 0.5)} px, "
            "such as `--model vit_vanilla`."
        )
    if defense.changes("finish"):
        raise BadSetting(
            f"{'+'.join(part.label for part in recipe.defenses)} on {recipe.model} changes the "
            "gradient by means of activations, and how that changes with the picture is not "
            "computed, so there is no ceiling yet. Choose a defense that changes the finished "
            "gradient or each example's, such as noise or dp_sgd."
        )


def _notes(recipe: Recipe, victim: Victim) -> tuple[str, ...]:
    parts = [(one.label, make(Defense, one.name, one.settings)) for one in recipe.defenses]
    deaf = unheard(victim.model.defense, parts)
    text = (
        f"What {' and '.join(deaf)} does to the update is not counted: the ceiling is that of "
        "an update without it, so it holds, but it may be far too high."
    )
    return (*victim.notes, *([text] if deaf else []))
