"""Trains a victim by its recipe; stops and goes on without changing the outcome."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Int
from safetensors import SafetensorError, safe_open
from timm.optim._param_groups import param_groups_weight_decay
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from privbench.augment import Augmentation, Pixels, seed_everything
from privbench.client import generator
from privbench.errors import BadWeights
from privbench.recipe import Recipe
from privbench.store import write
from privbench.victim import Victim

STATE = ("exp_avg", "exp_avg_sq", "step")
"""Of AdamW, per parameter: one that a step leaves alone falls behind in its count."""
COLUMNS = ("epoch", "lr", "loss", "accuracy")
EVALUATION_BATCH = 500

Report = Callable[[int, int, float, float], None]
"""Called with the steps done, all steps, the mean loss of the epoch and the last test accuracy."""


@dataclass(frozen=True)
class Split:
    """Pictures in memory."""

    pixels: Pixels
    labels: Int[Tensor, " b"]


@dataclass(frozen=True)
class Training:
    """All that decides the weights, and where they go."""

    victim: Victim
    recipe: Recipe
    seed: int
    train: Split
    test: Split
    identity: Mapping[str, Any]
    """Names, settings and data hashes: a checkpoint goes on only with its own."""
    folder: Path


def run(training: Training, report: Report) -> list[dict[str, float]]:
    """Train to the last epoch; return the log, a row per epoch.

    After every epoch checkpoint and log.csv are replaced atomically, and every epoch seeds its
    own generators, so a run that was killed ends in the same weights as an undisturbed one on the
    same machine. Raises BadWeights on a checkpoint of another training, Unwritable on a full disk.
    """
    vit, recipe = training.victim.model.vit, training.recipe
    steps = len(training.train.labels) // recipe.batch_size
    groups = param_groups_weight_decay(
        vit, recipe.weight_decay, no_weight_decay_list=_undecayed(vit, recipe)
    )
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr)
    total = steps * recipe.epochs
    schedule = CosineLRScheduler(
        optimizer,
        t_initial=total,
        lr_min=recipe.min_lr,
        warmup_t=round(total * recipe.warmup),
        warmup_lr_init=1e-6,
        t_in_epochs=False,
    )
    log = _resume(training, vit, optimizer)
    for epoch in range(len(log), recipe.epochs):
        row = {"epoch": float(epoch + 1)}
        accuracy = log[-1]["accuracy"] if log else 0.0
        for done, loss in _epoch(training, optimizer, schedule, epoch, steps):
            row["loss"] = loss
            report(epoch * steps + done, total, loss, accuracy)
        row["lr"] = optimizer.param_groups[0]["lr"]
        row["accuracy"] = accuracy_of(training.victim, training.test)
        log.append(row)
        _save(training, vit, optimizer, log)
    return log


def _epoch(
    training: Training,
    optimizer: torch.optim.Optimizer,
    schedule: CosineLRScheduler,
    epoch: int,
    steps: int,
) -> Iterator[tuple[int, float]]:
    """Yield the steps done and the mean loss so far."""
    model, recipe = training.victim.model, training.recipe
    vit, device = model.vit, model.vit.mean.device
    rng = generator("train", training.seed, epoch)
    seed_everything(int(torch.randint(2**31, (), generator=rng)))
    augment = Augmentation(recipe, vit.side, vit.classes, vit.mean, vit.std)
    order = _order(len(training.train.labels), recipe, rng)
    vit.train()
    mean = 0.0
    for step in range(steps):
        schedule.step_update(epoch * steps + step)
        chosen = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
        images, soft = augment(training.train.pixels[chosen], training.train.labels[chosen])
        exposed = epoch >= recipe.epochs * recipe.exposure_after
        exposed = exposed and float(torch.rand((), generator=rng)) < recipe.exposure
        draw = model.defense.draw(vit, len(chosen), rng) if exposed else None
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bf16):
            logits = model.defense.forward(vit, images.to(device), draw)
        loss = cross_entropy(logits.float(), soft.to(device))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vit.parameters(), recipe.clip)
        optimizer.step()
        mean += (loss.item() - mean) / (step + 1)
        yield step + 1, mean
    vit.eval()


def _order(count: int, recipe: Recipe, rng: Generator) -> Int[Tensor, " k"]:
    """Permutation of the pictures; with repeats each of a part of them comes several times."""
    order = torch.randperm(count, generator=rng)
    return order.repeat_interleave(recipe.repeats)[:count]


def _undecayed(vit: nn.Module, recipe: Recipe) -> set[str]:
    if recipe.decay_positions:
        return set()
    ends = ("pos_embed", "cls_token", "dist_token", "reg_token")
    return {name for name, _ in vit.named_parameters() if name.endswith(ends)}


@torch.no_grad()
def accuracy_of(victim: Victim, split: Split) -> float:
    """Share of correct answers, without the defense's dice."""
    model = victim.model
    device, right = model.vit.mean.device, 0
    model.vit.eval()
    for start in range(0, len(split.labels), EVALUATION_BATCH):
        part = slice(start, start + EVALUATION_BATCH)
        images = split.pixels[part].to(device).float() / 255
        found = model.defense.forward(model.vit, images, None).argmax(1)
        right += int((found.cpu() == split.labels[part]).sum())
    return right / len(split.labels)


def _checkpoint(training: Training) -> Path:
    return training.folder / "checkpoint.safetensors"


def _save(
    training: Training,
    vit: nn.Module,
    optimizer: torch.optim.Optimizer,
    log: list[dict[str, float]],
) -> None:
    """Write weights, both moments of AdamW, and the log; the checkpoint first."""
    tensors = {f"weights.{name}": tensor for name, tensor in vit.state_dict().items()}
    for name, parameter in vit.named_parameters():
        for part, tensor in optimizer.state.get(parameter, {}).items():
            tensors[f"{part}.{name}"] = tensor
    state = {"identity": training.identity, "log": log}
    write_tensors(_checkpoint(training), tensors, {"privbench": json.dumps(state, sort_keys=True)})
    lines = [",".join(f"{row[column]:.6g}" for column in COLUMNS) for row in log]
    write(training.folder / "log.csv", "\n".join([",".join(COLUMNS), *lines, ""]).encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Replace a safetensors file atomically; raises Unwritable."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write(path, safetensors.torch.save(plain, metadata))


def _resume(
    training: Training, vit: nn.Module, optimizer: torch.optim.Optimizer
) -> list[dict[str, float]]:
    """Fill model and optimizer from a checkpoint; return its log, empty without one."""
    path = _checkpoint(training)
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
    if state["identity"] != json.loads(json.dumps(training.identity)):
        wrong = [k for k, v in state["identity"].items() if v != training.identity.get(k)]
        raise BadWeights(
            f"'{path}' belongs to a training with another {', '.join(wrong) or 'set of options'}. "
            "Repeat the command that began it, or name another --out."
        )
    prefix = "weights."
    weights = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
    vit.load_state_dict(weights)
    for name, parameter in vit.named_parameters():
        found = {part: tensors[f"{part}.{name}"] for part in STATE if f"{part}.{name}" in tensors}
        if found:
            step = {"step": found.pop("step")}  # AdamW keeps its count on the processor
            optimizer.state[parameter] = step | {k: t.to(parameter) for k, t in found.items()}
    return state["log"]
