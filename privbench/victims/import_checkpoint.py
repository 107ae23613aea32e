"""Takes over checkpoints of timm, DeiT and MJP's released code; pickles run no code here."""

import argparse
import hashlib
import json
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from privbench.errors import BadSetting, BadWeights
from privbench.records.store import write
from privbench.training.checkpoint import write_tensors
from privbench.victims import facts
from privbench.victims.fit import differences
from privbench.victims.load import Victim, load
from privbench.victims.preset import model_preset, preset_names
from privbench.victims.weights import digest
from privbench.vit import ViT

PARTS = ("model", "state_dict", "model_ema", "state_dict_ema")
"""Where a training's checkpoint keeps its weights, in the order in which they are taken."""
WRAPPERS = ("_orig_mod.", "module.")
"""What torch puts before all names of a compiled or a distributed model."""
BACKBONE = "backbone."
TABLE = "pos_embed.weight"
"""Position table of MJP's released code: an embedding whose last row is the unknown one."""
HEAD = "dlocr."
"""Localization head of MJP's released code."""
INERT = [argparse.Namespace, (OrderedDict, "yacs.config.CfgNode")]
"""What trainings store beside weights, options: read as plain containers of what is in them.

Every checkpoint of MJP's released code has a CfgNode, every one of DeiT's a Namespace.
"""
KEPT = (torch.float16, torch.bfloat16, torch.float32)
SHOWN = 3
CPU = torch.device("cpu")


def import_weights(
    file: Path, model: str, out: Path, settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write a foreign checkpoint as safetensors for `--weights`, a card beside it; return the card.

    Read are state dicts, plain or in a training's checkpoint, in the names of timm (and DeiT), of
    MJP's released code or of this package. Settings are those of the model, as for --set model.
    Raises BadWeights on a file that holds no such weights, holds anything that could run code, or
    fits another model; BadSetting on an out that is no safetensors file; Unwritable.
    """
    if out.suffix != ".safetensors":
        raise BadSetting(f"--out names a .safetensors file, not '{out.name}'.")
    if out.resolve() == file.resolve():
        raise BadSetting(f"--out is the file itself, '{out}'. Name another one.")
    victim = load(model, settings or {}, (), "init", CPU)
    part, foreign = _state(file)
    layout, found = _renamed(foreign)
    _check(file, model, settings or {}, victim, found)
    kept = {key: _plain(file, key, tensor) for key, tensor in found.items()}
    victim.model.vit.load_state_dict({key: tensor.float() for key, tensor in kept.items()})
    with file.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    card = {
        "model": model,
        "settings": dict(victim.settings),
        "source": file.name,
        "source sha256": sha256,
        "format": layout,
        "part": part,
        "tensors": len(kept),
        "weights sha256": digest(victim.model.vit.state_dict()),
        "date": datetime.now(UTC).date().isoformat(),
        facts.KEY: facts.facts(victim.model.vit),
    }
    text = json.dumps(card, indent=1, sort_keys=True)
    write_tensors(out, kept, {"card": text})
    write(out.with_suffix(".json"), text.encode())
    return card


def _read(file: Path) -> Any:
    """Return what is in a file, tensors and plain containers only."""
    if file.is_dir():
        raise BadWeights(f"'{file}' is a folder. Name the checkpoint file in it.")
    if not file.is_file():
        raise BadWeights(f"There is no file '{file}'. Name a checkpoint file.")
    if not file.stat().st_size:
        raise BadWeights(f"'{file.name}' is empty. Fetch or save it again.")
    try:
        with file.open("rb") as content:
            start = content.read(9)
        if start[8:] == b"{":  # safetensors: the length of the header, then the header
            return safetensors.torch.load_file(file)
        with warnings.catch_warnings(), torch.serialization.safe_globals(INERT):
            warnings.simplefilter("ignore")  # of old pickle protocols and storages
            # Foreign checkpoints are pickles. weights_only builds tensors and plain containers
            # and refuses everything else, so no code of the file ever runs.
            return torch.load(file, map_location="cpu", weights_only=True)  # noqa: TID251
    except (OSError, SafetensorError) as error:
        raise BadWeights(
            f"'{file.name}' cannot be read: {error}. Fetch or save it again."
        ) from None
    except pickle.UnpicklingError as error:
        if named := re.search(r"GLOBAL (\S+)", str(error)):
            raise BadWeights(
                f"'{file.name}' holds more than tensors ({named[1]}), which could run code, so it "
                "was not read. Where you trust it, save its state dict alone with torch.save."
            ) from None
        raise _unreadable(file) from None
    except Exception:  # torch has no error of its own for files that are torn or something else
        raise _unreadable(file) from None


def _unreadable(file: Path) -> BadWeights:
    return BadWeights(
        f"'{file.name}' is no checkpoint of tensors, or a damaged one. Name a safetensors file, or "
        "a state dict that torch.save wrote."
    )


def _state(file: Path) -> tuple[str, dict[str, Tensor]]:
    """Return the state dict in a file and where in it that was."""
    content = _read(file)
    inside = content if isinstance(content, Mapping) else {}
    for part, found in [("the whole file", inside), *((p, inside.get(p)) for p in PARTS)]:
        if _is_state(found):
            state: dict[str, Tensor] = dict(found)
            for wrapper in WRAPPERS:
                if all(key.startswith(wrapper) for key in state):
                    state = {key.removeprefix(wrapper): t for key, t in state.items()}
            return part, state
    holds = ", ".join(map(str, list(inside)[:SHOWN])) or type(content).__name__
    raise BadWeights(
        f"'{file.name}' holds no state dict of tensors, neither as a whole nor as "
        f"{', '.join(PARTS)}; it holds {holds}. Save the state dict alone with torch.save."
    )


def _is_state(found: Any) -> bool:
    return (
        isinstance(found, Mapping)
        and len(found) > 0
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items())
    )


def _renamed(foreign: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Return the layout that was recognized, and the tensors under this package's names."""
    if any(key.startswith(BACKBONE) for key in foreign):
        return "privbench", dict(foreign)
    head = {key: tensor for key, tensor in foreign.items() if key.startswith(HEAD)}
    found = {BACKBONE + k: t for k, t in foreign.items() if k not in head and k != TABLE}
    if TABLE not in foreign and not head:
        return "timm", found
    if (table := foreign.get(TABLE)) is not None and table.ndim == 2 and len(table):
        found |= {ViT.POSITIONS: table[None, :-1], "unknown_embed": table[-1:]}
    elif table is not None:
        found[BACKBONE + TABLE] = table
    # One or two linear layers in order, whatever their names; a ReLU stands between two.
    for name in ("weight", "bias"):
        layers = [tensor for key, tensor in head.items() if key.endswith(f".{name}")]
        found |= {f"localizer.{2 * i}.{name}": tensor for i, tensor in enumerate(layers)}
    return "MJP's released code", found


def _check(
    file: Path, model: str, settings: Mapping[str, Any], victim: Victim, found: Mapping[str, Tensor]
) -> None:
    """Refuse what does not fit; name the victims of the same architecture that it does fit."""
    vit = victim.model.vit
    distilled = f"{BACKBONE}dist_token"
    if distilled in found and distilled not in vit.state_dict():
        raise BadWeights(
            f"'{file.name}' is a distilled model (dist_token, head_dist), and {model} has no "
            "distillation token. Choose one with it, such as timm:deit_small_distilled_patch16_224."
        )
    wrong = differences(vit, found)
    if not wrong:
        return
    fits: list[str] = []
    if all(key == ViT.POSITIONS or not key.startswith(BACKBONE) for key in wrong):
        fits = _fitting(victim, settings, found)
    first = "; ".join(list(wrong.values())[:SHOWN])
    advice = f"It fits {', '.join(fits)}" if fits else "Choose the model that it was made for"
    raise BadWeights(
        f"'{file.name}' does not fit {model}: {len(wrong)} tensors differ, first {first}. {advice}."
    )


def _fitting(victim: Victim, settings: Mapping[str, Any], found: Mapping[str, Tensor]) -> list[str]:
    names = []
    for name in preset_names("models"):
        preset = model_preset(name)
        if preset.timm is None and preset.architecture == victim.preset.architecture:
            same = {key: value for key, value in settings.items() if key in preset.architecture}
            if not differences(load(name, same, (), "init", CPU).model.vit, found):
                names.append(name)
    return names


def _plain(file: Path, key: str, tensor: Tensor) -> Tensor:
    """Return a copy with memory of its own; float64 becomes float32, other types stay."""
    kept = tensor.detach().float() if tensor.dtype == torch.float64 else tensor.detach()
    if kept.dtype not in KEPT or kept.layout != torch.strided or kept.is_meta:
        raise BadWeights(
            f"'{file.name}': {key} is no plain tensor of floating-point numbers but "
            f"{tensor.dtype}, {tensor.layout}. Save the weights as float32."
        )
    if not kept.isfinite().all():
        raise BadWeights(
            f"'{file.name}': {key} has values that are infinite or no numbers. The training that "
            "wrote it has failed; take an earlier checkpoint."
        )
    return kept.clone(memory_format=torch.contiguous_format)
