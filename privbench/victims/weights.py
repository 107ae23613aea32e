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
from torch import Tensor

from privbench.errors import BadWeights
from privbench.victims.advice import advice
from privbench.victims.cards import bundled, card
from privbench.victims.facts import note, require_kin
from privbench.victims.fit import completed, differences, resampled
from privbench.victims.heads import draw
from privbench.victims.preset import Preset, model_preset, preset_names
from privbench.victims.takeover import takeover
from privbench.vit import ViT

NAMES = ("init", "own", "pretrained", "trained")
"""Where weights come from, if not from a file; `own` is of the user's own model."""
SIZES = ("img_size", "num_classes", "global_pool")
"""What timm fits its published weights to."""
PATIENCE = 5.0
"""Seconds that the model hub has to answer in."""


def label(weights: str) -> str:
    """Say where weights come from as records do: a file's name without its place."""
    return weights if weights in NAMES else Path(weights).name


def fill(
    vit: ViT, name: str, preset: Preset, weights: str, settings: Mapping[str, Any] | None = None
) -> str | None:
    """Load weights in place; `init` and `own` keep what is there. Raises BadWeights.

    A position table of another grid is resampled as timm does it. Settings are those that the
    user gave; where one of timm's models is to know other classes, its head stays as it was drawn.
    Returns a note where a card says that the weights are of another scheme, or there is none.
    """
    if weights == "init" or preset.own:
        return None
    given = settings or {}
    if weights == "pretrained":
        _put(vit, _of_hub(vit, name, preset, given))
        return _as_drawn("timm's release", sorted(vit.fresh)) if vit.fresh else None
    path = _path(name, weights)
    try:
        found = safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadWeights(
            f"'{weights}' cannot be read as safetensors: {error}. Name a file in that format "
            "(`privbench import-weights` makes one), or use `--weights init`."
        ) from None
    if not any(key.startswith(ViT.BACKBONE) for key in found):
        raise BadWeights(
            f"'{path.name}' has other names of tensors. {takeover(path, vit, name, given)}"
        )
    fitted = completed(vit, resampled(vit, found))
    if wrong := differences(vit, fitted):
        first = next(iter(wrong.values()))
        raise BadWeights(
            f"'{path.name}' belongs to another model than {name}: {len(wrong)} tensors do not fit, "
            f"first {first}. {advice(name, given, found)}."
        )
    require_finite(fitted, f"'{path.name}'")
    told = card(path)
    require_kin(vit, name, path.name, told)
    _put(vit, fitted)
    drawn = sorted(vit.fresh - found.keys())
    notes = [note(preset, name, told), _as_drawn(path.name, drawn) if drawn else None]
    return " ".join(one for one in notes if one) or None


def _as_drawn(source: str, names: list[str]) -> str:
    return (
        f"Parameters that the defense added, {len(names)} tensors such as {names[0]}, begin as "
        f"drawn: {source} has none of them."
    )


def _put(vit: ViT, found: Mapping[str, Tensor]) -> None:
    vit.load_state_dict({key: tensor.float() for key, tensor in found.items()})


def _of_hub(vit: ViT, name: str, preset: Preset, given: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return timm's own weights as they fit a victim; raises BadWeights."""
    source = _pretrained(name, preset)
    asked = {key: size for key, size in given.items() if preset.timm and key in SIZES}
    found = {f"backbone.{key}": tensor for key, tensor in published(source, asked).items()}
    if "num_classes" in asked and vit.classes != _published_classes(source):
        found = draw(found, vit)
    found = completed(vit, resampled(vit, found))
    if wrong := differences(vit, found):
        first = next(iter(wrong.values()))
        raise BadWeights(
            f"The pretrained weights of timm's {source} do not fit {name} as it is set: "
            f"{len(wrong)} tensors do not fit, first {first}. Leave its architecture as it is, or "
            "use `--weights init`."
        )
    require_finite(found, f"The pretrained weights of timm's {source}")
    return found


def require_finite(found: Mapping[str, Tensor], whose: str) -> None:
    """Raise BadWeights where a tensor, as float32, has a value that is none."""
    for key, tensor in found.items():
        wrong = int((~tensor.float().isfinite()).sum()) if tensor.dtype.is_floating_point else 0
        if wrong:
            raise BadWeights(
                f"{whose}: {wrong} of {tensor.numel()} values of {key} are infinite or no numbers. "
                "The training that wrote them has failed; take an earlier checkpoint."
            )


def _published_classes(source: str) -> int | None:
    """Return how many classes published weights know."""
    config = timm.get_pretrained_cfg(source)
    return None if config is None else config.num_classes


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
