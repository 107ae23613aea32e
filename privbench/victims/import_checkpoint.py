"""Takes over other people's checkpoints as weights of a victim; pickles run no code here."""

import hashlib
import json
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from os.path import realpath
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from privbench.errors import BadSetting, BadWeights
from privbench.records.store import write
from privbench.training.checkpoint import write_tensors
from privbench.victims import facts, heads, import_check
from privbench.victims.cards import card as read_card
from privbench.victims.checkpoint_file import WHOLE, choose
from privbench.victims.checkpoint_names import merge_class_row, rename
from privbench.victims.fit import resampled
from privbench.victims.load import load
from privbench.victims.weights import digest

KEPT = (torch.float16, torch.bfloat16, torch.float32)
SHOWN = 3
MOST = 8
"""Keys and parts that are shown."""
CPU = torch.device("cpu")


def import_weights(
    file: Path,
    model: str,
    out: Path,
    settings: Mapping[str, Any] | None = None,
    *,
    part: str | None = None,
    columns: str | None = None,
    new_head: bool = False,
) -> dict[str, Any]:
    """Write a foreign checkpoint as safetensors for `--weights`, a card beside it; return the card.

    Read are state dicts, plain or in a training's checkpoint, whatever their names begin with, in
    the names of timm (and DeiT, MAE, DINO), Hugging Face, torchvision, MJP's released code or this
    package. Settings are those of the model, as for --set model. A part is that of the file, when
    there are several. Columns are the classes of the checkpoint's head that the model's classes
    are, in order; a new head is drawn, for a backbone without one or other classes.

    Raises BadWeights on a file that holds no such weights, holds anything that could run code, or
    fits another model; UnknownName; BadSetting on an out that is no safetensors file; Unwritable.
    """
    if out.suffix != ".safetensors":
        raise BadSetting(f"--out names a .safetensors file, not '{out.name}'.")
    if realpath(out) == realpath(file):
        raise BadSetting(f"--out is the file itself, '{out}'. Name another one.")
    victim = load(model, settings or {}, (), "init", CPU)
    vit = victim.model.vit
    choice = choose(file, part)
    named = rename(choice.found, vit.state_dict())
    found = resampled(vit, merge_class_row(vit, named.tensors))
    if columns is not None:
        found = heads.pick(found, vit, columns)
    if new_head:
        found = heads.draw(found, vit)
    import_check.check(file, model, settings or {}, victim, found)
    facts.require_kin(vit, model, file.name, read_card(file))
    kept = {key: _plain(file, key, tensor) for key, tensor in found.items()}
    vit.load_state_dict({key: tensor.float() for key, tensor in kept.items()})
    with file.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    card = {
        "model": model,
        "settings": dict(victim.settings),
        "source": file.name,
        "source sha256": sha256,
        "format": named.layout,
        "part": choice.found.part,
        "keys": list(choice.keys) if choice.found.part != WHOLE else [],
        "other parts": list(choice.others),
        "left out": named.left_out,
        "columns": columns,
        "new head": new_head,
        "tensors": len(kept),
        "weights sha256": digest(vit.state_dict()),
        "date": datetime.now(UTC).date().isoformat(),
        facts.KEY: facts.facts(vit),
    }
    text = json.dumps(card, indent=1, sort_keys=True)
    write_tensors(out, kept, {"card": text})
    write(out.with_suffix(".json"), text.encode())
    return card


def told(card: Mapping[str, Any]) -> list[str]:
    """Say what was read, what else there was, what was left out, and what was made up."""
    lines = [f"Read as {card['format']}: {card['tensors']} tensors."]
    others, keys = card["other parts"], card["keys"]
    if keys or others:
        line = f"Read state_dict of keys: {', '.join(keys[:MOST])}: " if keys else ""
        line += f"took {card['part']}"
        if others:
            line += f"; choose another by --part {shlex.quote(others[0])}"
            line += f" (or {', '.join(others[1:MOST])})" if others[1:] else ""
        lines.append(f"{line}.")
    if left := card["left out"]:
        more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
        names = f"{', '.join(left[:SHOWN])}{more}"
        lines.append(f"Left out, since {card['model']} has no such part: {names}.")
    if card["format"] != "privbench":
        mean, std = (facts.short(card[facts.KEY][key]) for key in ("mean", "std"))
        lines.append(
            f"Pictures are normalized as {card['model']} does, by mean {mean} and std {std}: the "
            "file does not say. If it was trained with others, add --set model.mean and model.std."
        )
    if card["new head"]:
        lines.append("The head is drawn from init_seed: train it, `privbench train --weights`.")
    return lines


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
