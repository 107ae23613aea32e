"""A backbone with its positional scheme, a defense on the update, and weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from privbench.component import find, make, names
from privbench.defense import Defense
from privbench.errors import BadSetting, UnknownName
from privbench.observation import PublicModel
from privbench.stack import Stack
from privbench.variants import give_dropout, strip_first_block
from privbench.victims.backbone import build
from privbench.victims.cards import bundled
from privbench.victims.memory import ATTACKED
from privbench.victims.own_model import code_sha256, refuse_weights
from privbench.victims.preset import FREE, OUTSIDE, Preset, model_preset, own_label
from privbench.victims.weights import digest, fill, label, require_finite

POOLS = ("token", "avg")
"""What a head may see: the class token, or the mean over patches."""
TIMM_STD = 0.02
"""Of timm's position tables; position_std scales them."""
VARIANTS: Mapping[str, Any] = {"dropout": 0.0, "first_block": "plain"}
"""Settings that every victim has; records hold them only where they are not the default.

dropout: rate of timm's pos_drop, attn_drop and proj_drop, active while a client trains.
first_block: plain, or april for one without its first LayerNorm and without residuals.
"""


@dataclass(frozen=True)
class Victim:
    """What a client runs; all of it is public but the random draws."""

    preset: Preset
    settings: Mapping[str, Any]
    """All settings of the architecture and the scheme, defaults included."""
    model: PublicModel
    weights: str
    """Where the weights come from: init, pretrained, trained, own, or a file's name."""
    weights_sha256: str
    notes: tuple[str, ...] = ()
    """What a reader of its results has to know."""

    def shared(self) -> frozenset[str]:
        """Names of the parameters whose gradient the client shares."""
        names = frozenset(self.model.vit.trained())
        return names - self.model.defense.withholds(names)


def known_settings(preset: Preset) -> list[str]:
    """Names that `--set model.KEY=VALUE` may use for a victim.

    One of timm's or the user's own takes any scheme, so the settings of all are among them.
    """
    if preset.described:
        scheme = find(Defense, preset.scheme).setting_names()
        return [*preset.architecture, *FREE, *scheme, *preset.initial(), *VARIANTS]
    schemes = [key for name in names(Defense.shelf) for key in find(Defense, name).setting_names()]
    return list(dict.fromkeys([*OUTSIDE, *preset.initial(), *VARIANTS, *schemes]))


def load(
    name: str,
    settings: Mapping[str, Any],
    defenses: tuple[Defense, ...],
    weights: str | None,
    device: torch.device,
    copies: int = ATTACKED,
) -> Victim:
    """Build a victim; raises UnknownName, BadSetting, BadWeights or UnsupportedModel.

    Without a word on weights it has those that come along, unless there are none, or settings
    ask for another architecture or start. So many copies of its weights have to fit into memory.
    """
    preset = model_preset(name)
    if preset.own:
        refuse_weights(name, weights)
    UnknownName.refuse(f"setting of {name}", settings, known_settings(preset))
    if not preset.described:
        preset = preset.model_copy(update={"scheme": settings.get("scheme", preset.scheme)})
    architecture = _architecture(preset, settings)
    seed = settings.get("init_seed", preset.init_seed)
    spread = settings.get("position_std", preset.position_std)
    variants = {key: settings.get(key, value) for key, value in VARIANTS.items()}
    _check(name, architecture, seed, spread)
    _check_variants(name, variants)
    own = (*architecture, *preset.initial(), *variants, "scheme")
    changes = {key: value for key, value in settings.items() if key not in own}
    scheme = make(Defense, preset.scheme, dict(preset.settings) | changes)
    vit = build(preset, name, architecture, seed, device, copies)
    if preset.own:
        weights = "own"
    else:
        vit.positions.data *= spread / TIMM_STD
    if variants["dropout"]:
        give_dropout(vit.backbone, variants["dropout"])
    if variants["first_block"] == "april":
        strip_first_block(vit.backbone)
    stack = Stack(parts=(scheme, *defenses))
    stack.equip(vit, torch.Generator().manual_seed(seed))
    if weights is None:
        other = any(key in settings for key in (*architecture, *preset.initial()))
        other = other or variants["first_block"] != VARIANTS["first_block"]
        weights = "init" if other or bundled(name) is None else "trained"
    note = fill(vit, name, preset, weights, settings)
    if preset.own:
        require_finite(vit.state_dict(), own_label(name))
    return Victim(
        preset=preset,
        settings={
            **architecture,
            **scheme.settings(),
            "init_seed": seed,
            "position_std": spread,
            **{key: value for key, value in variants.items() if value != VARIANTS[key]},
            **({"code_sha256": code_sha256(name)} if preset.own else {}),
        },
        model=PublicModel(vit.eval().to(device), stack),
        weights=label(weights),
        weights_sha256=digest(vit.state_dict()),
        notes=(note,) if note else (),
    )


def _architecture(preset: Preset, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the network is built with: the preset's, or what is given beside a name."""
    if preset.described:
        fixed = {key: settings.get(key, value) for key, value in preset.architecture.items()}
        return fixed | {key: settings[key] for key in FREE if key in settings}
    return {key: settings[key] for key in OUTSIDE if key in settings and key != "scheme"}


def _check(name: str, architecture: Mapping[str, Any], seed: Any, spread: Any) -> None:
    if type(spread) not in (int, float) or not 0 < spread < float("inf"):
        raise BadSetting(f"{name}: position_std is a number above zero, not {spread!r}.")
    for key in ("mean", "std"):
        if key in architecture:
            _check_channels(name, key, architecture[key])
    pool = architecture.get("global_pool", POOLS[0])
    if pool not in POOLS:
        raise BadSetting(f"{name}: global_pool is {' or '.join(POOLS)}, not {pool!r}.")
    for key, value, least in [
        *((k, v, 1) for k, v in architecture.items() if k not in FREE),
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


def _check_channels(name: str, key: str, value: Any) -> None:
    """Three finite numbers; a standard deviation is above zero."""
    numbers = isinstance(value, list | tuple) and all(type(v) in (int, float) for v in value)
    least = 0.0 if key == "std" else -float("inf")
    if not numbers or len(value) != 3 or not all(least < v < float("inf") for v in value):
        raise BadSetting(
            f"{name}: {key} is three numbers, one for each channel, such as [0.5, 0.5, 0.5]; not "
            f"{value!r}."
        )


def _check_variants(name: str, variants: Mapping[str, Any]) -> None:
    rate, block = variants["dropout"], variants["first_block"]
    if type(rate) not in (int, float) or not 0 <= rate < 1:
        raise BadSetting(f"{name}: dropout is a rate from 0 to below 1, not {rate!r}.")
    if block not in ("plain", "april"):
        raise BadSetting(f"{name}: first_block is plain or april, not {block!r}.")
