"""A backbone with its positional scheme, a defense on the update, and weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.models.vision_transformer import VisionTransformer

from privbench.cards import bundled
from privbench.component import find, make
from privbench.config import Preset, model_preset
from privbench.defense import Defense, Stack
from privbench.errors import BadSetting, UnknownName
from privbench.observation import PublicModel
from privbench.vit import ViT
from privbench.weights import digest, fill, label

TIMM_STD = 0.02
"""Of timm's position tables; position_std scales them."""


@dataclass(frozen=True)
class Victim:
    """What a client runs; all of it is public but the dice."""

    preset: Preset
    settings: Mapping[str, Any]
    """All settings of the architecture and the scheme, defaults included."""
    model: PublicModel
    weights: str
    """Where the weights come from: init, pretrained, trained, or a file's name."""
    weights_sha256: str

    def shared(self) -> frozenset[str]:
        """Names of the parameters whose gradient the client shares."""
        names = frozenset(self.model.vit.trained())
        return names - self.model.defense.withholds(names)


def known_settings(preset: Preset) -> list[str]:
    """Names that `--set model.KEY=VALUE` may use for a victim."""
    return [*preset.architecture, *find(Defense, preset.scheme).setting_names(), *preset.initial()]


def load(
    name: str,
    settings: Mapping[str, Any],
    defenses: tuple[Defense, ...],
    weights: str | None,
    device: torch.device,
) -> Victim:
    """Build a victim; raises UnknownName, BadSetting, BadWeights or UnsupportedModel.

    Without a word on weights it has those that come along, unless there are none, or settings
    ask for another architecture or start.
    """
    preset = model_preset(name)
    UnknownName.refuse(f"setting of {name}", settings, known_settings(preset))
    architecture = {key: settings.get(key, value) for key, value in preset.architecture.items()}
    seed = settings.get("init_seed", preset.init_seed)
    spread = settings.get("position_std", preset.position_std)
    _check(name, architecture, seed, spread)
    changes = {k: v for k, v in settings.items() if k not in (*architecture, *preset.initial())}
    scheme = make(Defense, preset.scheme, dict(preset.settings) | changes)
    vit = _build(preset, name, architecture, seed)
    vit.positions.data *= spread / TIMM_STD
    stack = Stack(parts=(scheme, *defenses))
    stack.equip(vit, torch.Generator().manual_seed(seed))
    if weights is None:
        other = any(key in settings for key in (*architecture, *preset.initial()))
        weights = "init" if other or bundled(name) is None else "trained"
    fill(vit, name, preset, weights)
    return Victim(
        preset=preset,
        settings={**architecture, **scheme.settings(), "init_seed": seed, "position_std": spread},
        model=PublicModel(vit.eval().to(device), stack),
        weights=label(weights),
        weights_sha256=digest(vit.state_dict()),
    )


def _check(name: str, architecture: Mapping[str, Any], seed: Any, spread: Any) -> None:
    if type(spread) not in (int, float) or not 0 < spread < float("inf"):
        raise BadSetting(f"{name}: position_std is a number above zero, not {spread!r}.")
    for key, value, least in [
        *((k, v, 1) for k, v in architecture.items()),
        ("init_seed", seed, 0),
    ]:
        if type(value) is not int or not least <= value < 2**63:
            raise BadSetting(f"{name}: {key} is a whole number from {least} on, not {value!r}.")
    side, patch = architecture.get("img_size", 0), architecture.get("patch_size", 1)
    if side % patch:
        raise BadSetting(
            f"{name}: patches of {patch} px do not divide pictures of {side} px; "
            f"set img_size to a multiple of patch_size, such as {max(side // patch, 1) * patch}."
        )


def _build(preset: Preset, name: str, architecture: Mapping[str, Any], seed: int) -> ViT:
    # timm draws its weights from torch's global generator; the fork keeps that to itself.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if preset.timm is None:
            assert preset.mean is not None
            assert preset.std is not None
            try:
                backbone = VisionTransformer(**architecture)
            except (AssertionError, RuntimeError, TypeError, ZeroDivisionError) as error:
                wishes = ", ".join(f"{key} {value}" for key, value in architecture.items())
                raise BadSetting(f"{name} cannot be built with {wishes}: {error}.") from None
            return ViT(backbone, preset.mean, preset.std)
        if preset.timm not in (known := timm.list_models()):
            raise UnknownName("timm model", preset.timm, known)
        backbone = timm.create_model(preset.timm, pretrained=False)
        pixels = resolve_model_data_config(backbone)
        return ViT(backbone, pixels["mean"], pixels["std"])
