"""Trains a victim by its recipe; stops and goes on without changing the outcome."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Float, Int
from timm.optim._param_groups import param_groups_weight_decay
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader

from privbench.client_step import ClientStep
from privbench.observation import PublicModel
from privbench.seeds import generator
from privbench.threat import Images, Randomness, Update
from privbench.training import checkpoint
from privbench.training.augment import Augmentation
from privbench.training.recipe import Recipe
from privbench.training.split import Split
from privbench.victims.load import Victim

EVALUATION_BATCH = 500

Report = Callable[[int, int, float, float], None]
"""Called with the steps done, all steps, the mean loss of the epoch and the last test accuracy."""
Log = list[dict[str, float]]


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
    engine: Accelerator
    """One process or several, started by torchrun: they share each batch among them."""
    workers: int = 0
    """Processes that augment pictures, per process that trains; no answer depends on it."""


class Objective(nn.Module):
    """A client's step and the penalty: what an engine wraps when several processes train."""

    def __init__(self, model: PublicModel, *, bf16: bool) -> None:
        super().__init__()
        self.step = ClientStep(model.vit, model.defense, bf16=bf16)

    def forward(
        self,
        images: Images,
        soft: Float[Tensor, "b classes"],
        draw: Randomness | None,
        progress: float,
    ) -> Float[Tensor, ""]:
        """Mean loss with soft labels, plus the penalty at this share of the steps."""
        loss, _ = self.step(images, soft, draw, progress)
        penalty = self.step.defense.penalty(self.step.vit, draw, progress)
        return loss if penalty is None else loss + penalty


def run(training: Training, report: Report) -> Log:
    """Train to the last epoch; return the log, a row per epoch.

    After every epoch checkpoint and log.csv are replaced atomically. Every picture, batch and
    draw has a seed of its own, so a run that was killed ends in the same weights as an
    undisturbed one on the same machine, and several processes see what one would.
    Raises BadWeights on a checkpoint of another training, Unwritable on a full disk.
    """
    vit, recipe, engine = training.victim.model.vit, training.recipe, training.engine
    steps = len(training.train) // recipe.batch_size
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
    log = checkpoint.resume(training.folder, training.identity, vit, optimizer)
    objective: nn.Module = engine.prepare(Objective(training.victim.model, bf16=recipe.bf16))
    for epoch in range(len(log), recipe.epochs):
        row, start = {"epoch": float(epoch + 1)}, time.perf_counter()
        accuracy = log[-1]["accuracy"] if log else 0.0
        for done, loss in _epoch(training, objective, optimizer, schedule, epoch, steps):
            row["loss"] = loss
            report(epoch * steps + done, total, loss, accuracy)
        row["lr"] = optimizer.param_groups[0]["lr"]
        row["accuracy"] = accuracy_of(training.victim, training.test, engine, bf16=recipe.bf16)
        row["seconds"] = time.perf_counter() - start
        log.append(row)
        if engine.is_main_process:
            checkpoint.save(training.folder, training.identity, vit, optimizer, log)
        engine.wait_for_everyone()
    return log


def _epoch(
    training: Training,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: CosineLRScheduler,
    epoch: int,
    steps: int,
) -> Iterator[tuple[int, float]]:
    """Yield the steps done and the mean loss so far."""
    model, recipe, engine = training.victim.model, training.recipe, training.engine
    device, size = model.vit.mean.device, recipe.batch_size
    rows = share_of(size, engine.process_index, engine.num_processes)
    exposing = epoch >= recipe.epochs * recipe.exposure_after
    objective.train()
    mean = 0.0
    for done, (images, soft) in enumerate(batches(training, epoch, steps, rows)):
        schedule.step_update(epoch * steps + done)
        rng = generator("dice", training.seed, epoch, done)
        exposed = exposing and float(torch.rand((), generator=rng)) < recipe.exposure
        drawing = model.defense.draw if exposed else model.defense.draw_at_rest
        draw = drawing(model.vit, size, rng)
        if draw is not None and len(rows) < size:
            draw = draw.rows(rows)
        progress = (epoch * steps + done) / (steps * recipe.epochs)
        batch = images.to(device), soft.to(device), draw, progress
        optimizer.zero_grad()
        loss = _differentiate(engine, objective, model, batch, ("step", training.seed, epoch, done))
        nn.utils.clip_grad_norm_(model.vit.parameters(), recipe.clip)
        optimizer.step()
        whole = engine.reduce(loss.detach(), reduction="mean")
        assert isinstance(whole, Tensor)
        mean += (whole.item() - mean) / (done + 1)
        yield done + 1, mean
    objective.eval()


Batch = tuple[Images, Float[Tensor, "b classes"], Randomness | None, float]


def _differentiate(
    engine: Accelerator,
    objective: nn.Module,
    model: PublicModel,
    batch: Batch,
    seed: tuple[object, ...],
) -> Float[Tensor, ""]:
    """Leave in the parameters' grad what a client would share of this batch; return the loss.

    What a client withholds it trains itself, by its own gradient.
    """
    defense, rng = model.defense, generator(*seed)
    if defense.per_example or defense.changes("finish"):
        step = engine.unwrap_model(objective).step
        found = step.run(*batch[:3], rng, batch[3])
        loss = found.loss
        for name, parameter in model.vit.trained().items():
            parameter.grad = found.gradient[name]
    else:
        loss = objective(*batch)
        engine.backward(loss)
    if defense.changes("protect"):
        trained = {name: p for name, p in model.vit.trained().items() if p.grad is not None}
        withheld = defense.withholds(trained)
        shared = {n: p.grad for n, p in trained.items() if n not in withheld and p.grad is not None}
        for name, tensor in defense.protect(Update(shared, withheld), rng).tensors.items():
            trained[name].grad = tensor
    return loss


def batches(
    training: Training, epoch: int, steps: int, rows: Sequence[int]
) -> Iterator[tuple[Images, Float[Tensor, "b classes"]]]:
    """Yield these rows of every batch of an epoch, augmented and mixed."""
    vit, recipe = training.victim.model.vit, training.recipe
    augmentation = Augmentation(recipe, vit.side, vit.classes, vit.mean, vit.std)
    rng = generator("epoch", training.seed, epoch)
    order = _order(len(training.train), recipe, rng).tolist()
    seeds = torch.randint(2**31, (steps, recipe.batch_size + 1), generator=rng).tolist()

    def one(place: tuple[int, int]) -> tuple[Tensor, int, int]:
        step, row = place
        index = order[step * recipe.batch_size + row]
        pixels = augmentation.each(training.train.picture(index), seeds[step][row])
        return pixels, int(training.train.labels[index]), step

    def batch(found: list[tuple[Tensor, int, int]]) -> tuple[Images, Float[Tensor, "b classes"]]:
        pixels, labels, places = zip(*found, strict=True)
        seed = seeds[places[0]][-1]
        return augmentation.mix(torch.stack(pixels), torch.tensor(labels), seed)

    yield from DataLoader(
        Places(one, steps * recipe.batch_size),  # type: ignore[arg-type]
        batch_sampler=[[(step, row) for row in rows] for step in range(steps)],  # type: ignore[arg-type]
        collate_fn=batch,
        num_workers=training.workers,
        multiprocessing_context="fork" if training.workers else None,
    )


@dataclass(frozen=True)
class Places(torch.utils.data.Dataset[Any]):
    """A picture for each place in an epoch, a pair of step and row."""

    picture: Callable[[tuple[int, int]], Any]
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: tuple[int, int]) -> Any:
        return self.picture(place)


def share_of(size: int, process: int, processes: int) -> list[int]:
    """Rows of a batch that one of several processes takes.

    A part of the first half and its mirror image in the second: mixing pairs mirrored rows, so
    that each process mixes exactly those pairs that one process with the whole batch would.
    """
    part = size // 2 // processes
    first = list(range(process * part, (process + 1) * part))
    return first + [size - 1 - row for row in reversed(first)]


def _order(count: int, recipe: Recipe, rng: Generator) -> Int[Tensor, " k"]:
    """Permutation of the pictures; with repeats each of a part of them comes several times."""
    order = torch.randperm(count, generator=rng)
    return order.repeat_interleave(recipe.repeats)[:count]


def _undecayed(vit: nn.Module, recipe: Recipe) -> set[str]:
    if recipe.decay_positions:
        return set()
    ends = ("_embed", "_token")  # position tables and what stands before the patches
    return {name for name, _ in vit.named_parameters() if name.endswith(ends)}


@torch.no_grad()
def accuracy_of(
    victim: Victim, split: Split, engine: Accelerator | None = None, *, bf16: bool = False
) -> float:
    """Share of correct answers, without the defense's random draws."""
    model = victim.model
    device, right = model.vit.mean.device, torch.zeros((), device=model.vit.mean.device)
    process, processes = (engine.process_index, engine.num_processes) if engine else (0, 1)
    model.vit.eval()
    for start in range(process * EVALUATION_BATCH, len(split), processes * EVALUATION_BATCH):
        images, labels = split.load(range(start, min(start + EVALUATION_BATCH, len(split))))
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            found = model.logits(images.to(device)).argmax(1)
        right += (found == labels.to(device)).sum()
    whole = engine.reduce(right, reduction="sum") if engine else right
    assert isinstance(whole, Tensor)
    return whole.item() / len(split)
