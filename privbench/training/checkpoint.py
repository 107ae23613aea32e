"""What a training needs to go on after any stop: one safetensors file, and the log beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from privbench.errors import BadWeights
from privbench.records.store import write

STATE = ("exp_avg", "exp_avg_sq", "step")
"""Of AdamW, per parameter: one that a step leaves alone falls behind in its count."""
COLUMNS = ("epoch", "lr", "loss", "accuracy", "seconds")
WEIGHTS = "weights."
FILE = "checkpoint.safetensors"


def save(
    folder: Path,
    identity: Mapping[str, Any],
    vit: nn.Module,
    optimizer: torch.optim.Optimizer,
    log: list[dict[str, float]],
) -> None:
    """Write weights, both moments of AdamW, and the log; the checkpoint first."""
    tensors = {f"{WEIGHTS}{name}": tensor for name, tensor in vit.state_dict().items()}
    for name, parameter in vit.named_parameters():
        for part, tensor in optimizer.state.get(parameter, {}).items():
            tensors[f"{part}.{name}"] = tensor
    state = {"identity": identity, "log": log}
    write_tensors(folder / FILE, tensors, {"privbench": json.dumps(state, sort_keys=True)})
    lines = [",".join(f"{row[column]:.6g}" for column in COLUMNS) for row in log]
    write(folder / "log.csv", "\n".join([",".join(COLUMNS), *lines, ""]).encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Replace a safetensors file atomically; raises Unwritable."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write(path, safetensors.torch.save(plain, metadata))


def resume(
    folder: Path, identity: Mapping[str, Any], vit: nn.Module, optimizer: torch.optim.Optimizer
) -> list[dict[str, float]]:
    """Fill model and optimizer from a checkpoint; return its log, empty without one.

    Raises BadWeights on a file that is no checkpoint, or one of another training.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    try:
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["privbench"])
        tensors = safetensors.torch.load_file(path)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        raise BadWeights(
            f"'{path}' is not a checkpoint of this program. Move it away or name another --out."
        ) from None
    if state["identity"] != json.loads(json.dumps(identity)):
        known = state["identity"]
        wrong = [key for key in {**known, **identity} if known.get(key) != identity.get(key)]
        raise BadWeights(
            f"'{path}' belongs to a training with another {', '.join(wrong) or 'set of options'}. "
            "Repeat the command that began it, or name another --out."
        )
    weights = {k.removeprefix(WEIGHTS): t for k, t in tensors.items() if k.startswith(WEIGHTS)}
    vit.load_state_dict(weights)
    for name, parameter in vit.named_parameters():
        found = {part: tensors[f"{part}.{name}"] for part in STATE if f"{part}.{name}" in tensors}
        if found:
            step = {"step": found.pop("step")}  # AdamW keeps its count on the processor
            optimizer.state[parameter] = step | {k: t.to(parameter) for k, t in found.items()}
    return state["log"]
