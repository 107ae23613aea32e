"""Opens any model that can be measured: a victim, one of timm's, or the user's own."""

from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config

from privbench.classifier import Classifier
from privbench.component import Part
from privbench.errors import BadWeights, UnsupportedModel
from privbench.running.plan import control_of, model_part
from privbench.victims.load import known_settings, load
from privbench.victims.own_model import SETTING, open_own
from privbench.victims.preset import is_own, model_preset
from privbench.victims.weights import available, digest, published


def settings_of(name: str) -> list[str]:
    """Return the names that `--set model.KEY=VALUE` may use; raises UnknownName."""
    return [SETTING] if is_own(name) else known_settings(model_preset(name))


def open_classifier(
    name: str, settings: Mapping[str, Any], weights: str | None, device: torch.device
) -> Classifier:
    """Build a preset's victim, `timm:NAME`, or what `FILE.py:FACTORY` returns.

    Raises UnknownName, BadSetting, BadWeights or UnsupportedModel.
    """
    if is_own(name):
        return _own(name, settings, weights, device)
    preset = model_preset(name)
    try:
        victim = load(name, settings, (), weights, device)
    except UnsupportedModel:  # a network without patches: it can be measured, not attacked
        if preset.timm is None:
            raise
        return _of_timm(name, preset.timm, weights or "init", device)
    vit = victim.model.vit
    return Classifier(
        network=victim.model.logits,
        part=model_part(name, settings, victim),
        control=control_of(preset, settings),
        weights=victim.weights,
        weights_sha256=victim.weights_sha256,
        side=vit.side,
        classes=vit.classes,
        dataset=preset.dataset,
        device=device,
        public=victim.model,
    )


def _of_timm(name: str, source: str, weights: str, device: torch.device) -> Classifier:
    """Open a timm model of any kind, with timm's own normalization."""
    if weights not in ("init", "pretrained"):
        raise BadWeights(
            f"Weights of {name} are init or pretrained (timm's own), not '{weights}', since it is "
            "no plain vision transformer. Use `--weights pretrained`."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model(source, pretrained=False)
    if weights == "pretrained":
        network.load_state_dict(published(available(source)))
    pixels = resolve_model_data_config(network)
    mean, std = (torch.tensor(pixels[k], device=device).view(1, 3, 1, 1) for k in ("mean", "std"))
    network = network.eval().to(device)
    return Classifier(
        network=lambda images: network((images - mean) / std),
        part=Part(name, name, 1, {"scheme": "none"}),
        control=name,
        weights=weights,
        weights_sha256=digest(network.state_dict()),
        side=int(pixels["input_size"][-1]),
        classes=int(network.num_classes),  # type: ignore[arg-type]
        dataset="photos",
        device=device,
    )


def _own(
    name: str, settings: Mapping[str, Any], weights: str | None, device: torch.device
) -> Classifier:
    """Open the user's own network, with the weights that it comes with."""
    found = open_own(name, settings, weights, device)
    return Classifier(
        network=found.network,
        part=found.part,
        control=None,
        weights="own",
        weights_sha256=digest(found.network.state_dict()),
        side=found.side,
        classes=found.classes,
        dataset="photos",
        device=device,
    )
