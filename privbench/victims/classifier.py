"""Opens any model that can be measured: a victim, one of timm's, or the user's own."""

from collections.abc import Mapping
from typing import Any

import torch
from timm.data.config import resolve_model_data_config

from privbench.classifier import Classifier
from privbench.component import Part, label
from privbench.errors import BadWeights, UnknownName, UnsupportedModel
from privbench.running.plan import control_of, model_part
from privbench.victims.backbone import PIXELS, SIZES, of_timm
from privbench.victims.load import known_settings, load
from privbench.victims.memory import MEASURED, require
from privbench.victims.own_model import SETTING, open_own
from privbench.victims.preset import is_own, model_preset
from privbench.victims.soundness import require_classes
from privbench.victims.weights import available, digest, published, require_finite

MEASURABLE = (*SIZES, *PIXELS)
"""Settings of a network that is no victim."""


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
        victim = load(name, settings, (), weights, device, MEASURED)
    except UnsupportedModel:  # a network without patches: it can be measured, not attacked
        if preset.timm is None:
            raise
        return _of_timm(name, preset.timm, settings, weights or "init", device)
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
        notes=victim.notes,
    )


def _of_timm(
    name: str, source: str, settings: Mapping[str, Any], weights: str, device: torch.device
) -> Classifier:
    """Open a timm model of any kind, with timm's own normalization unless settings say otherwise.

    A network without patches has no positions, so no scheme and nothing else to set.
    """
    UnknownName.refuse(f"setting of {name}, which can be measured only", settings, MEASURABLE)
    if weights not in ("init", "pretrained"):
        raise BadWeights(
            f"Weights of {name} are init or pretrained (timm's own), not '{weights}', since it is "
            "no plain vision transformer. Use `--weights pretrained`."
        )
    sizes = {key: settings[key] for key in SIZES if key in settings}
    with torch.device("meta"):
        require(of_timm(source, sizes), name, MEASURED, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = of_timm(source, sizes)
    if weights == "pretrained":
        network.load_state_dict(published(available(source), sizes))
    require_finite(network.state_dict(), f"Weights of {name}")
    pixels = resolve_model_data_config(network) | {
        key: settings[key] for key in PIXELS if key in settings
    }
    mean, std = (torch.tensor(pixels[k], device=device).float().view(1, 3, 1, 1) for k in PIXELS)
    classes = require_classes(int(network.num_classes), name)  # type: ignore[arg-type]
    network = network.eval().to(device)
    return Classifier(
        network=lambda images: network((images - mean) / std),
        part=Part(name, label(name, settings), 1, {"scheme": "none", **settings}),
        control=label(name, settings),
        weights=weights,
        weights_sha256=digest(network.state_dict()),
        side=settings.get("img_size", int(pixels["input_size"][-1])),
        classes=classes,
        dataset="photos",
        device=device,
    )


def _own(
    name: str, settings: Mapping[str, Any], weights: str | None, device: torch.device
) -> Classifier:
    """Open the user's own network, with the weights that it comes with."""
    found = open_own(name, settings, weights, device)
    require_finite(found.network.state_dict(), found.part.name)
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
