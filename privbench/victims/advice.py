"""What to do about weights that do not fit a model: each advice is tried before it is given."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from torch import Tensor

from privbench.errors import PrivbenchError
from privbench.victims.backbone import sketch
from privbench.victims.facts import assignments
from privbench.victims.fit import differences, resampled
from privbench.victims.preset import OUTSIDE, Preset, model_preset
from privbench.vit import ViT

GUESSES = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge"}
"""Names of widths in timm's models."""
NOTHING = "Choose the model that it was made for"
"""Where nothing that was tried fits."""
SMALL_CHANGES = {"depth", "global_pool", "img_size", "num_classes"}
"""Settings that leave a model what it is called."""
HEAD = 64
"""Width of a head of attention nearly everywhere; the shapes of weights do not tell it."""


def advice(name: str, given: Mapping[str, Any], found: Mapping[str, Tensor]) -> str:
    """Return what makes weights fit: settings of this model, else another model.

    Given are the user's settings, found the tensors under this package's names.
    """
    if (fitting := suggest(name, given, found)) is None:
        return NOTHING
    other, extra = fitting
    sets = assignments(extra) if extra else ""
    if other == name:
        return f"Add {sets}" if extra else NOTHING
    return f"Choose `--model {other}`" + (f" with {sets}" if sets else "")


def suggest(
    name: str, given: Mapping[str, Any], found: Mapping[str, Tensor]
) -> tuple[str, dict[str, Any]] | None:
    """Return a model that weights fit, and its settings beyond the given ones, or None."""
    shape = _shape(found)
    if shape is None:
        return None
    for other, extra in _candidates(name, given, shape):
        if _fits(other, {**given, **extra} if other == name else extra, found):
            return other, extra
    return None


def _candidates(
    name: str, given: Mapping[str, Any], shape: Mapping[str, int]
) -> Iterator[tuple[str, dict[str, Any]]]:
    preset = model_preset(name)
    extra = _changes(preset, given, shape)
    own = [(name, extra), (name, extra | {"global_pool": "avg"})] if not preset.own else []
    kin = list(_kin(shape))
    yield from own + kin if extra.keys() <= SMALL_CHANGES else kin + own


def _kin(shape: Mapping[str, int]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield timm's usual models of a width, with their own head or as many classes."""
    if (size := GUESSES.get(shape["embed_dim"])) is None:
        return
    classes = {"num_classes": shape["num_classes"]}
    sides = [shape["img_size"]] if "img_size" in shape else [224, 384]
    for kin, side, tail in product(("vit", "deit"), sides, ("", "_distilled")):
        start = f"timm:{kin}_{size}{tail}_patch{shape['patch_size']}_{side}"
        for extra in ({}, classes, classes | {"global_pool": "avg"}):
            yield start, extra


def _changes(preset: Preset, given: Mapping[str, Any], shape: Mapping[str, int]) -> dict[str, Any]:
    """Return the settings of a model in which weights differ from it."""
    if not preset.described:
        return {"num_classes": shape["num_classes"]}
    now = {**preset.architecture, **given}
    extra: dict[str, Any] = {key: v for key, v in shape.items() if now.get(key) != v}
    if extra.keys() <= SMALL_CHANGES or "img_size" in given:
        extra.pop("img_size", None)  # the table is resampled
    if "embed_dim" in extra and not shape["embed_dim"] % HEAD:
        extra["num_heads"] = shape["embed_dim"] // HEAD
    return extra


def _fits(name: str, settings: Mapping[str, Any], found: Mapping[str, Tensor]) -> bool:
    """Try it on shapes alone; what a scheme adds is no part of the backbone."""
    inside = {key: tensor for key, tensor in found.items() if key.startswith(ViT.BACKBONE)}
    try:
        preset = model_preset(name)
        known = preset.architecture if preset.described else OUTSIDE
        asked = dict(preset.architecture) if preset.described else {}
        asked |= {key: value for key, value in settings.items() if key in (*known, *OUTSIDE)}
        asked.pop("scheme", None)
        vit = sketch(preset, name, asked)
    except PrivbenchError:
        return False
    return not differences(vit, resampled(vit, inside))


def _shape(found: Mapping[str, Tensor]) -> dict[str, int] | None:
    """Read sizes off weights; None where they are no vision transformer's with a head."""
    stem, head = found.get(ViT.PROJECTION), found.get(ViT.HEAD)
    if stem is None or head is None or stem.ndim != 4 or head.ndim != 2:
        return None
    blocks = {key.split(".")[2] for key in found if key.startswith(f"{ViT.BACKBONE}blocks.")}
    return _side(found, stem.shape[-1]) | {
        "patch_size": stem.shape[-1],
        "embed_dim": stem.shape[0],
        "depth": len(blocks),
        "num_classes": head.shape[0],
    }


def _side(found: Mapping[str, Tensor], patch: int) -> dict[str, int]:
    """Read the side of the pictures off a position table, with or without rows before patches."""
    table = found.get(ViT.POSITIONS)
    if table is None or table.ndim != 3:
        return {}
    sides = {rows: round(max(table.shape[1] - rows, 0) ** 0.5) for rows in (1, 0, 2)}
    grid = next((n for rows, n in sides.items() if n and n * n == table.shape[1] - rows), None)
    return {} if grid is None else {"img_size": grid * patch}
