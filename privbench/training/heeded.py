"""Settings of a training that would change nothing but its name are refused."""

from collections.abc import Mapping
from typing import Any

import torch

from privbench.errors import BadSetting
from privbench.training.recipe import Recipe
from privbench.victims.load import Victim


def check(recipe: Recipe, given: Mapping[str, Any], victim: Victim) -> None:
    """Raise BadSetting for the first setting that was asked for and has no effect."""
    if recipe.min_lr > recipe.lr:
        raise BadSetting(
            f"train: the schedule would climb from lr={recipe.lr:g} to min_lr={recipe.min_lr:g}. "
            f"Add --set train.min_lr={recipe.lr / 100:g}."
        )
    default = Recipe.model_fields
    for name, (idle, why) in _idle(recipe, victim).items():
        value = getattr(recipe, name)
        if idle and name in given and value not in (default[name].default, 0):
            raise BadSetting(f"train: {name}={value:g} changes nothing, as {why}. Leave it out.")


def _idle(recipe: Recipe, victim: Victim) -> dict[str, tuple[bool, str]]:
    """Say for settings that others can switch off whether they are, and why."""
    vit, defense = victim.model.vit, victim.model.defense
    draws = defense.draw(vit, 1, torch.Generator().manual_seed(0)) is not None
    exposed = not draws, "this model's scheme draws nothing at random"
    unexposed = "exposure is 0, so that no step draws for the scheme"
    return {
        "padding": (recipe.crop == "resized", "crop=resized has no border"),
        "mix": (not (recipe.mixup or recipe.cutmix), "mixup and cutmix are 0"),
        "mixup": (not recipe.mix, "mix is 0, so that no batch is mixed"),
        "cutmix": (not recipe.mix, "mix is 0, so that no batch is mixed"),
        "exposure": exposed,
        "exposure_after": exposed if exposed[0] else (not recipe.exposure, unexposed),
        "decay_positions": (not recipe.weight_decay, "weight_decay is 0"),
    }
