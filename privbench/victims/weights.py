"""Fills a victim with weights: drawn, bundled, published by timm, or of a file."""

import hashlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    get_session,
)
from safetensors import SafetensorError
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor

from privbench.errors import BadWeights
from privbench.victims.cards import bundled
from privbench.victims.preset import Preset, model_preset, preset_names
from privbench.vit import ViT

NAMES = ("init", "own", "pretrained", "trained")
"""Where weights come from, if not from a file; `own` is of the user's own model."""
SIZES = ("img_size", "num_classes")
"""What timm fits its published weights to."""
HEADS = ("backbone.head.", "backbone.head_dist.")
FIXED = 0.004
"""How far a fixed table may be from the model's own: what bfloat16 does to a number near one."""
PATIENCE = 5.0
"""Seconds that the model hub has to answer in."""


def label(weights: str) -> str:
    """Say where weights come from as records do: a file's name without its place."""
    return weights if weights in NAMES else Path(weights).name


def fill(
    vit: ViT, name: str, preset: Preset, weights: str, sizes: Mapping[str, Any] | None = None
) -> None:
    """Load weights in place; `init` and `own` keep what is there. Raises BadWeights.

    A position table of another grid is resampled as timm does it. Sizes are what was asked of one
    of timm's models, such as another number of classes: then the head stays as it was drawn.
    """
    if weights == "init" or preset.own:
        return
    if weights == "pretrained":
        source = _pretrained(name, preset)
        asked = {key: size for key, size in (sizes or {}).items() if preset.timm and key in SIZES}
        found = {f"backbone.{key}": tensor for key, tensor in published(source, asked).items()}
        if "num_classes" in asked and vit.classes != _published_classes(source):
            found |= {k: t for k, t in vit.state_dict().items() if k.startswith(HEADS)}
        complaint = f"The pretrained weights of timm's {source} do not fit {name} as it is set: "
        advice = "Leave its architecture as it is, or use `--weights init`."
    else:
        path = _path(name, weights)
        try:
            found = safetensors.torch.load_file(path)
        except (OSError, SafetensorError) as error:
            raise BadWeights(
                f"'{weights}' cannot be read as safetensors: {error}. Name a file in that format "
                "(`privbench import-weights` makes one), or use `--weights init`."
            ) from None
        complaint = f"'{path.name}' belongs to another model than {name}: "
        advice = "Choose the model that it was made for."
    found = _resampled(vit, found)
    if wrong := differences(vit, found):
        first = next(iter(wrong.values()))
        raise BadWeights(f"{complaint}{len(wrong)} tensors do not fit, first {first}. {advice}")
    vit.load_state_dict({key: tensor.float() for key, tensor in found.items()})


def _published_classes(source: str) -> int | None:
    """Return how many classes published weights know."""
    config = timm.get_pretrained_cfg(source)
    return None if config is None else config.num_classes


def _resampled(vit: ViT, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fit a learned position table of another square grid to the victim's."""
    table, own = found.get(ViT.POSITIONS), vit.positions
    if table is None or not own.requires_grad or table.ndim != 3 or table.shape == own.shape:
        return dict(found)
    side = round(max(table.shape[1] - vit.prefix, 0) ** 0.5)
    if table.shape[2] != own.shape[2] or side**2 + vit.prefix != table.shape[1] or not side:
        return dict(found)
    fitted = resample_abs_pos_embed(
        table.float(), new_size=[vit.grid] * 2, old_size=[side] * 2, num_prefix_tokens=vit.prefix
    )
    return {**found, ViT.POSITIONS: fitted}


def differences(vit: ViT, found: Mapping[str, Tensor]) -> dict[str, str]:
    """Say for every tensor that does not fit a victim what is wrong; empty if all do.

    Order: the victim's tensors, then those that it does not know. A table without gradient, such
    as zeros in the place of positions, has to be the victim's own: learned positions would turn
    the victim into another one without a word.
    """
    state = vit.state_dict()
    fixed = {key for key, parameter in vit.named_parameters() if not parameter.requires_grad}
    wrong: dict[str, str] = {}
    for key in [*state, *(key for key in found if key not in state)]:
        has = _shape(found[key]) if key in found else "missing"
        wants = _shape(state[key]) if key in state else "no such tensor"
        if has != wants:
            wrong[key] = f"{key} ({has} in the file, {wants} in the model)"
        elif key in fixed and not found[key].float().allclose(state[key], rtol=0, atol=FIXED):
            wrong[key] = f"{key} (not the fixed values that the model has there)"
    return wrong


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def digest(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 of names, shapes, types and values."""
    found = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        found.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.numpy().tobytes())
    return found.hexdigest()


def _path(name: str, weights: str) -> Path:
    if weights == "trained":
        if (path := bundled(name)) is None:
            raise BadWeights(
                f"No trained weights come with {name} yet. Use `--weights init`, or name a "
                "safetensors file."
            )
        return path
    if not (path := Path(weights)).is_file():
        raise BadWeights(
            f"There is no weights file '{weights}'. Name a safetensors file, or use "
            "`--weights init`."
        )
    return path


def _pretrained(name: str, preset: Preset) -> str:
    """Return the name of the timm model whose weights fit, if timm publishes any."""
    source = preset.timm or preset.pretrained
    if source is None:
        known = [one for one in preset_names("models") if model_preset(one).pretrained]
        raise BadWeights(
            f"There are no pretrained weights for {name}, only for timm:NAME and "
            f"{', '.join(known)}. Choose one of these, or name a file with `--weights FILE`."
        )
    return available(source)


def available(source: str) -> str:
    """Return the name of a timm model that has published weights; raises BadWeights."""
    if not timm.is_model_pretrained(source):
        raise BadWeights(
            f"timm publishes no weights for {source}. Use `--weights init`, or name a safetensors "
            "file."
        )
    return source


def published(source: str, sizes: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
    """Return a timm model's published weights, of an earlier download or over the network.

    Sizes, such as img_size=112, are those that timm fits the weights to.

    Raises BadWeights within seconds where the hub does not answer: left to itself, its client
    asks twelve times and waits longer each time.
    """
    asked = dict(sizes or {})
    # timm draws weights before it fills them; the fork keeps torch's generator as it was.
    with _hushed(), torch.random.fork_rng(devices=[]):
        with suppress(Exception), _offline():  # it fails unless all was fetched before
            return timm.create_model(source, pretrained=True, **asked).state_dict()
        try:
            get_session().head(constants.ENDPOINT, timeout=PATIENCE)
            return timm.create_model(source, pretrained=True, **asked).state_dict()
        except Exception as error:  # of hub, HTTP client, urllib or timm: each has its own
            reason = type(error).__name__
    raise BadWeights(
        f"timm's weights of {source} could not be fetched from {constants.ENDPOINT} ({reason}). "
        "Try again with a network, or get a checkpoint file and `privbench import-weights` it."
    )


@contextmanager
def _offline() -> Iterator[None]:
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def _hushed() -> Iterator[None]:
    """Print nothing of what a download logs, warns of or draws."""
    level, hidden = logging.root.manager.disable, are_progress_bars_disabled()
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            disable_progress_bars()
            yield
    finally:
        logging.disable(level)
        if not hidden:
            enable_progress_bars()
