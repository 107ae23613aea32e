"""A backbone with its positional scheme, a defense on the update, and weights."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from safetensors import SafetensorError
from timm.data.config import resolve_model_data_config
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from privbench.component import find, make
from privbench.config import Preset, model_preset
from privbench.defense import Defense, Stack
from privbench.errors import BadSetting, BadWeights, UnknownName
from privbench.observation import PublicModel
from privbench.vit import ViT

INITIAL = ("init_seed", "position_std")
"""Settings of what the weights are before training."""
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
    """Where the weights come from: init, trained, or a file's name."""
    weights_sha256: str

    def shared(self) -> frozenset[str]:
        """Names of the parameters whose gradient the client shares."""
        names = frozenset(self.model.vit.trained())
        return names - self.model.defense.withholds(names)


def known_settings(preset: Preset) -> list[str]:
    """Names that `--set model.KEY=VALUE` may use for a victim."""
    return [*preset.architecture, *find(Defense, preset.scheme).setting_names(), *INITIAL]


def load(
    name: str,
    settings: Mapping[str, Any],
    defenses: tuple[Defense, ...],
    weights: str,
    device: torch.device,
) -> Victim:
    """Build a victim; raises UnknownName, BadSetting, BadWeights or UnsupportedModel."""
    preset = model_preset(name)
    UnknownName.refuse(f"setting of {name}", settings, known_settings(preset))
    architecture = {key: settings.get(key, value) for key, value in preset.architecture.items()}
    seed = settings.get("init_seed", preset.init_seed)
    spread = settings.get("position_std", preset.position_std)
    _check(name, architecture, seed, spread)
    changes = {k: v for k, v in settings.items() if k not in (*architecture, *INITIAL)}
    scheme = make(Defense, preset.scheme, dict(preset.settings) | changes)
    vit = _build(preset, name, architecture, seed)
    vit.positions.data *= spread / TIMM_STD
    stack = Stack(parts=(scheme, *defenses))
    stack.equip(vit, torch.Generator().manual_seed(seed))
    _fill(vit, name, weights)
    return Victim(
        preset=preset,
        settings={**architecture, **scheme.settings(), "init_seed": seed, "position_std": spread},
        model=PublicModel(vit.eval().to(device), stack),
        weights=weights if weights in ("init", "trained") else Path(weights).name,
        weights_sha256=_hash(vit.state_dict()),
    )


def _check(name: str, architecture: Mapping[str, Any], seed: Any, spread: Any) -> None:
    if not isinstance(spread, int | float) or not 0 < spread < float("inf"):
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


def _fill(vit: ViT, name: str, weights: str) -> None:
    """Load weights in place; `init` keeps what was drawn."""
    if weights == "init":
        return
    path = Path(weights)
    if weights == "trained":
        path = Path(str(files("privbench.assets") / "weights" / f"{name}.safetensors"))
        if not path.is_file():
            raise BadWeights(
                f"No trained weights come with {name} yet. Use `--weights init`, or name a "
                "safetensors file."
            )
    if not path.is_file():
        raise BadWeights(
            f"There is no weights file '{weights}'. Name a safetensors file, or use "
            "`--weights init`."
        )
    try:
        found = safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadWeights(
            f"'{weights}' cannot be read as safetensors: {error}. Name a file in that format, or "
            "use `--weights init`."
        ) from None
    state = vit.state_dict()
    wrong = [key for key in sorted(state.keys() | found.keys()) if not _fits(key, state, found)]
    if wrong:
        raise BadWeights(
            f"'{path.name}' belongs to another model than {name}: {len(wrong)} tensors do not fit, "
            f"first {_difference(wrong[0], state, found)}. Choose the model that it was made for."
        )
    vit.load_state_dict({key: tensor.float() for key, tensor in found.items()})


def _fits(key: str, state: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> bool:
    return key in state and key in found and state[key].shape == found[key].shape


def _difference(key: str, state: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    has = "x".join(map(str, found[key].shape)) if key in found else "missing"
    wants = "x".join(map(str, state[key].shape)) if key in state else "no such tensor"
    return f"{key} ({has} in the file, {wants} in the model)"


def _hash(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
