"""Builds the network of a victim: of a preset, by timm's name, or by the user's own function."""

from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.models import get_arch_pretrained_cfgs
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from privbench.errors import BadSetting, UnknownName
from privbench.victims.families import wrap
from privbench.victims.memory import ATTACKED, require, require_blocks
from privbench.victims.own_model import built
from privbench.victims.preset import Preset, own_label
from privbench.victims.soundness import check, require_square
from privbench.vit import ViT

SIZES = ("img_size", "num_classes", "global_pool")
"""Settings that timm itself takes for its vision transformers."""
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
"""Of the user's own model: it normalizes by itself, unless settings say otherwise."""
PIXELS = ("mean", "std")
"""Settings of normalization."""


def build(
    preset: Preset,
    name: str,
    settings: Mapping[str, Any],
    seed: int,
    device: torch.device | None = None,
    copies: int = ATTACKED,
) -> ViT:
    """Return a victim's network, drawn from the seed; raises BadSetting or UnsupportedModel.

    Settings are the architecture's of a preset, or those of OUTSIDE that the user gave. All is
    checked on the meta device first, where nothing is allocated: that its sizes fit together, and
    that so many copies of it fit into the memory of the device that it goes to.
    """
    if preset.described:
        require_blocks(settings["depth"], settings["embed_dim"], name)
    if not preset.own:
        require(sketch(preset, name, settings), name, copies, device)
    # timm draws its weights from torch's global generator; the fork keeps that to itself.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _wrapped(preset, name, settings)


def sketch(preset: Preset, name: str, settings: Mapping[str, Any]) -> ViT:
    """Return a network without numbers, of shapes alone; raises as `build` does."""
    with torch.device("meta"):
        return _wrapped(preset, name, settings)


def _wrapped(preset: Preset, name: str, settings: Mapping[str, Any]) -> ViT:
    pixels: dict[str, Any] = {k: [*map(float, settings[k])] for k in PIXELS if k in settings}
    inside = {key: value for key, value in settings.items() if key not in PIXELS}
    if preset.timm is not None:
        network = of_timm(preset.timm, inside)
        found: dict[str, Any] = resolve_model_data_config(network) | pixels
    elif preset.own:
        network = _own(name, inside)
        found = PLAIN | pixels
    else:
        network = _described(name, inside)
        found = {"mean": preset.mean, "std": preset.std} | pixels
    require_square(network, own_label(name), preset.own)
    vit = wrap(network, found["mean"], found["std"])
    check(vit, own_label(name), preset.own)
    return vit


def _described(name: str, settings: Mapping[str, Any]) -> VisionTransformer:
    try:
        return VisionTransformer(**settings)
    except (AssertionError, RuntimeError, TypeError, ZeroDivisionError) as error:
        wishes = ", ".join(f"{key} {value}" for key, value in settings.items())
        raise BadSetting(f"{name} cannot be built with {wishes}: {error}.") from None


def of_timm(source: str, settings: Mapping[str, Any]) -> nn.Module:
    """Return a network of timm's, drawn anew; the name may end in a tag of published weights.

    Raises UnknownName or BadSetting. Of the settings, sizes are timm's; no picture size is dynamic.
    """
    name, dot, _ = source.partition(".")
    if name not in (known := timm.list_models()):
        raise UnknownName("timm model", name, known)
    if dot and source not in (tags := get_arch_pretrained_cfgs(name)):
        raise UnknownName("timm model with published weights", source, tags)
    sizes = {key: settings[key] for key in SIZES if key in settings}
    try:
        network = timm.create_model(source, pretrained=False, **sizes)
        if getattr(network, "dynamic_img_size", False):
            network = timm.create_model(source, pretrained=False, dynamic_img_size=False, **sizes)
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        wishes = ", ".join(f"{key} {value}" for key, value in sizes.items())
        reason = str(error).partition("\n")[0].rstrip(".")
        raise BadSetting(
            f"timm builds no {source} with {wishes or 'defaults'}: {reason}."
        ) from None
    return network


def _own(name: str, settings: Mapping[str, Any]) -> nn.Module:
    if sizes := [key for key in SIZES if key in settings]:
        raise BadSetting(
            f"{own_label(name)}: {' and '.join(sizes)} are the function's own affair. Change them "
            "there, and leave them out here."
        )
    return built(name)
