"""Weights that a training starts from, with a head of its own for other classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from privbench.errors import BadSetting
from privbench.victims.cards import bundled
from privbench.victims.load import Victim, load
from privbench.vit import ViT

CLASSES = "num_classes"


@dataclass(frozen=True)
class Origin:
    """Where a training starts."""

    weights: str
    """As records name them."""
    sha256: str
    new_head: bool
    """Whether they know another number of classes, so that the head stays as it was drawn."""


def start_from(victim: Victim, model: str, settings: Mapping[str, Any], weights: str) -> Origin:
    """Fill a victim in place; raises PrivbenchError.

    What a defense adds to the network stays as it was drawn.
    """
    source = load(model, _settings(model, settings, weights), (), weights, torch.device("cpu"))
    found, state = source.model.vit.state_dict(), victim.model.vit.state_dict()
    if lost := next((name for name in found if name not in state), None):
        raise BadSetting(
            f"The defense puts something else in the place of {lost}, so no training under it can "
            "start from these weights. Leave --defense or --weights out."
        )
    fitting = {name: t for name, t in found.items() if t.shape == state[name].shape}
    victim.model.vit.load_state_dict({**state, **fitting})
    new = source.model.vit.classes != victim.model.vit.classes
    return Origin(source.weights, source.weights_sha256, new)


def _settings(model: str, settings: Mapping[str, Any], weights: str) -> dict[str, Any]:
    """Return settings of the victim that the weights were made for: their own classes."""
    given = {key: value for key, value in settings.items() if key != CLASSES}
    path = bundled(model) if weights == "trained" else Path(weights)
    classes = None if path is None else _classes(path)
    return given if classes is None else given | {CLASSES: classes}


def _classes(path: Path) -> int | None:
    """Read the number of classes off a file's header; None where it shows none."""
    try:
        with safe_open(path, "pt") as file:
            return int(file.get_slice(ViT.HEAD).get_shape()[0])
    except (OSError, SafetensorError, IndexError):
        return None
