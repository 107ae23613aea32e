"""Builds the network of a victim: of a preset, by timm's name, or by the user's own function."""

from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from privbench.errors import BadSetting, UnknownName, UnsupportedModel
from privbench.victims.families import wrap
from privbench.victims.own_model import built
from privbench.victims.preset import Preset, own_label
from privbench.vit import ViT

SIZES = ("img_size", "num_classes")
"""Settings that timm itself takes for any of its vision transformers."""
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
"""Of the user's own model: it normalizes by itself, unless settings say otherwise."""


def build(preset: Preset, name: str, settings: Mapping[str, Any], seed: int) -> ViT:
    """Return a victim's network, drawn from the seed; raises BadSetting or UnsupportedModel.

    Settings are the architecture's of a preset, or those of OUTSIDE that the user gave.
    """
    # timm draws its weights from torch's global generator; the fork keeps that to itself.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if preset.timm is not None:
            return _outside(_of_timm(preset.timm, name, settings), name, settings)
        if preset.own:
            return _outside(_own(name, settings), own_label(name), settings, PLAIN)
        assert preset.mean is not None
        assert preset.std is not None
        try:
            backbone = VisionTransformer(**settings)
        except (AssertionError, RuntimeError, TypeError, ZeroDivisionError) as error:
            wishes = ", ".join(f"{key} {value}" for key, value in settings.items())
            raise BadSetting(f"{name} cannot be built with {wishes}: {error}.") from None
        return wrap(backbone, preset.mean, preset.std)


def _of_timm(source: str, name: str, settings: Mapping[str, Any]) -> nn.Module:
    if source not in (known := timm.list_models()):
        raise UnknownName("timm model", source, known)
    sizes = {key: settings[key] for key in SIZES if key in settings}
    try:
        network = timm.create_model(source, pretrained=False, **sizes)
        if getattr(network, "dynamic_img_size", False):
            network = timm.create_model(source, pretrained=False, dynamic_img_size=False, **sizes)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        wishes = ", ".join(f"{key} {value}" for key, value in sizes.items())
        reason = str(error).partition("\n")[0]
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


def _outside(
    network: nn.Module,
    name: str,
    settings: Mapping[str, Any],
    default: Mapping[str, Any] | None = None,
) -> ViT:
    """Wrap what no preset describes, and refuse what no client could train."""
    pixels = dict(default or resolve_model_data_config(network))
    pixels |= {key: settings[key] for key in ("mean", "std") if key in settings}
    vit = wrap(network, pixels["mean"], pixels["std"])
    if not vit.classes:
        raise BadSetting(
            f"{name} has no head: it is a backbone without classes. Add one, such as "
            "`--set model.num_classes=10`."
        )
    if not vit.heads:
        raise UnsupportedModel(
            f"{name} ends in no linear layer, and attacks read labels off one. Choose another "
            "victim (`privbench list models`)."
        )
    if vit.patch * vit.grid != vit.side:
        near = vit.patch * max(round(vit.side / vit.patch), 1)
        raise BadSetting(
            f"{name}: patches of {vit.patch} px do not divide pictures of {vit.side} px; set "
            f"img_size to a multiple, such as {near}."
        )
    return vit
