"""What a network is beyond its tensors' shapes, as cards hold it."""

import shlex
from collections.abc import Mapping
from math import isclose, isfinite
from typing import Any

import timm
from torch import nn

from privbench.errors import BadWeights, PrivbenchError
from privbench.victims.preset import Preset, is_own, model_preset
from privbench.vit import ViT

DIGITS = 6
"""Of mean and standard deviation that are compared."""
KEY = "network"
"""Of a card: these facts."""
SETTABLE = ("mean", "std", "num_heads", "global_pool")
"""Facts that are settings as well; of a model that timm describes, all but num_heads."""


def facts(vit: ViT) -> dict[str, Any]:
    """Return what two networks may differ in while all their tensors have the same shapes."""
    backbone, block = vit.backbone, vit.backbone.blocks[-1]  # the first may be APRIL's
    attention, rope = getattr(block, "attn", None), getattr(backbone, "rope", None)
    return {
        "mean": _rounded(vit.mean.flatten().tolist()),
        "std": _rounded(vit.std.flatten().tolist()),
        "num_heads": getattr(attention, "num_heads", None),
        "activation": _activation(block),
        "norm": _norm(block),
        "global_pool": getattr(backbone, "global_pool", None),
        "attention scale": _scale(attention),
        "first block": type(backbone.blocks[0]).__name__,
        "network": type(backbone).__name__,
        "rotary embedding": None if rope is None else type(rope).__name__,
    }


def require_kin(vit: ViT, name: str, file: str, card: Mapping[str, Any] | None) -> None:
    """Raise BadWeights where a card tells other facts than the victim's, with what to set."""
    told, own = card_facts(card or {}), facts(vit)
    wrong = [key for key in own if key in told and not _same(told[key], own[key])]
    if not wrong:
        return
    said = " and ".join(f"{key} {short(told[key])}, not {short(own[key])}" for key in wrong)
    raise BadWeights(
        f"'{file}' was made for {(card or {}).get('model', 'another model')} with {said}, so "
        f"{name} would answer otherwise. {_advice(name, wrong, told, card or {})}"
    )


def card_facts(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that a card tells; of an older one those that its model's name tells."""
    if isinstance(card.get(KEY), Mapping):
        return {key: value for key, value in card[KEY].items() if _sane(key, value)}
    preset, settings = _named(card)
    if preset is None:
        return {}
    config = timm.get_pretrained_cfg(preset.timm) if preset.timm else preset
    pixels = {} if config is None else {"mean": config.mean, "std": config.std}
    given = {key: settings[key] for key in SETTABLE if key in settings}
    return {key: value for key, value in (pixels | given).items() if _sane(key, value)}


def note(preset: Preset, name: str, card: Mapping[str, Any] | None) -> str | None:
    """Say what of weights that fit by their shapes is of another model, or is not known."""
    if card is None:
        return (
            "The weights file has no card: normalization, heads and activation are taken to be "
            f"those of {name}."
        )
    made, settings = _named(card)
    if made is None:
        return None
    scheme = made.scheme if made.described else str(settings.get("scheme", made.scheme))
    if scheme == preset.scheme:
        return None
    return (
        f"The weights were made for {card['model']}, whose scheme is {scheme}; the scheme of "
        f"{name} is {preset.scheme}."
    )


def _sane(key: Any, value: Any) -> bool:
    """Whether a card, which anybody may have written, tells a fact that can be compared."""
    if key in ("mean", "std"):
        three = isinstance(value, list | tuple) and len(value) == 3
        return three and all(type(one) in (int, float) and isfinite(one) for one in value)
    return type(value) is (int if key == "num_heads" else str)


def _named(card: Mapping[str, Any]) -> tuple[Preset | None, Mapping[str, Any]]:
    """Return the model that a card names, and its settings; no file of a user's is run for it."""
    name, settings = card.get("model"), card.get("settings")
    given = settings if isinstance(settings, Mapping) else {}
    if not isinstance(name, str) or is_own(name):
        return None, given
    try:
        return model_preset(name), given
    except PrivbenchError:
        return None, given


def _advice(name: str, wrong: list[str], told: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    settable = [key for key in SETTABLE if key != "num_heads" or not name.startswith("timm:")]
    if all(key in settable for key in wrong):
        return f"Add {assignments({key: told[key] for key in wrong})}."
    made = card.get("model")
    if isinstance(made, str) and made != name and not is_own(made):
        return f"Choose the model that they were made for, `--model {made}`."
    return "Choose weights of this model, or `--weights init`."


def assignments(settings: Mapping[str, Any]) -> str:
    """Return what sets a model's settings on the command line, as messages quote it."""
    return f"`{words(settings)}`"


def words(settings: Mapping[str, Any]) -> str:
    """Return what sets a model's settings on the command line."""
    return " ".join(f"--set {shlex.quote(f'model.{k}={short(v)}')}" for k, v in settings.items())


def short(value: Any) -> str:
    """Return a fact as it is written on the command line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(f'{one:g}' for one in value)}]"
    return str(value)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list | tuple):
        return _rounded(one) == _rounded(other)
    return one == other


def _rounded(values: Any) -> list[float]:
    return [round(float(one), DIGITS) for one in values]


def _scale(attention: Any) -> str | None:
    """Say how scores of attention are scaled; nearly everywhere by the width of a head."""
    scale, width = (getattr(attention, key, None) for key in ("scale", "head_dim"))
    if scale is None or width is None or isclose(scale, width**-0.5, rel_tol=1e-6):
        return "usual"
    return f"{scale:g}"


def _activation(block: nn.Module) -> str | None:
    layer = getattr(getattr(block, "mlp", None), "act", None)
    if layer is None:
        return None
    kind = getattr(layer, "approximate", "none")
    return type(layer).__name__ + ("" if kind == "none" else f" ({kind})")


def _norm(block: nn.Module) -> str | None:
    layer = getattr(block, "norm2", None)
    return None if layer is None else f"{type(layer).__name__} ({getattr(layer, 'eps', None)})"
