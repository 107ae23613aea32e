"""The fixed start: weights on the way from the drawn ones to the trained ones."""

from collections.abc import Mapping

import torch
from torch import Tensor

from privbench.errors import BadSetting
from privbench.running.jobs import Recipe
from privbench.running.victims import Victims
from privbench.victims.load import Victim
from privbench.vit import ViT

TRAINED, DRAWN = "trained", "init"


def start(
    recipe: Recipe, victim: Victim, victims: Victims, share: float
) -> tuple[dict[str, Tensor], float]:
    """Return the undefended victim's weights before the first step, and the share that was used.

    Of weights that come along, `share` of the way from those that their training began with: the
    recipe and its seed give these again on any computer. Others are taken as they are.
    """
    if victim.weights != TRAINED:
        return _copy(victim), 1.0
    drawn = victims.get(Recipe(recipe.model, recipe.settings, (), DRAWN)).model.vit.state_dict()
    return {name: _between(drawn[name], t, share) for name, t in _copy(victim).items()}, share


def put(vit: ViT, weights: Mapping[str, Tensor]) -> None:
    """Let a victim begin there; what a defense adds to the network stays as it was drawn."""
    vit.load_state_dict({**vit.state_dict(), **weights})


def require(vit: ViT, weights: Mapping[str, Tensor], name: str) -> None:
    """Raise BadSetting where a defense puts something else in a weight's place."""
    known = vit.state_dict()
    lost = [k for k, t in weights.items() if k not in known or t.shape != known[k].shape]
    if lost:
        raise BadSetting(
            f"{name} puts something else in the place of {lost[0]}, so it cannot start where the "
            "undefended training starts, and has no price by this protocol. Choose another defense."
        )


def _copy(victim: Victim) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in victim.model.vit.state_dict().items()}


def _between(first: Tensor, second: Tensor, share: float) -> Tensor:
    return torch.lerp(first, second, share) if second.is_floating_point() else second
