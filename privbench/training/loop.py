"""Trains a victim by its recipe; stops and goes on without changing the outcome."""

import time
from collections.abc import Callable, Iterator
from math import nan

import torch
from accelerate import Accelerator
from jaxtyping import Float
from timm.optim._param_groups import param_groups_weight_decay
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import Tensor, nn

from privbench.client_step import ClientStep
from privbench.errors import NotFinite
from privbench.observation import PublicModel
from privbench.seeds import generator
from privbench.threat import Images, Randomness, Update
from privbench.training import checkpoint
from privbench.training.batches import batches, share_of
from privbench.training.job import Training
from privbench.training.recipe import Recipe
from privbench.training.split import Split
from privbench.victims.load import Victim

EVALUATION_BATCH = 500

Report = Callable[[int, int, float, float], None]
"""Called with the steps done, all steps, the mean loss of the epoch and the last test accuracy,
which is NaN before the first; at the end of an epoch it is that of the weights then written."""
Log = list[dict[str, float]]


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
    Raises BadWeights on a checkpoint of another training, Unwritable on a full disk, NotFinite
    where it diverges: the checkpoint is then that of the last epoch that ended well.
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
        accuracy = log[-1]["accuracy"] if log else nan
        for done, loss in _epoch(training, objective, optimizer, schedule, epoch, steps):
            row["loss"] = loss
            if done < steps:
                report(epoch * steps + done, total, loss, accuracy)
        row["lr"] = optimizer.param_groups[0]["lr"]
        row["accuracy"] = _accuracy_after(training, (epoch + 1) * steps, total, row["lr"])
        report((epoch + 1) * steps, total, row["loss"], row["accuracy"])
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
        whole = engine.reduce(loss.detach(), reduction="mean")
        assert isinstance(whole, Tensor)
        norm = nn.utils.clip_grad_norm_(model.vit.parameters(), recipe.clip)
        if not (whole.isfinite() and norm.isfinite()):
            what = "the gradient" if whole.isfinite() else "the loss"
            now = epoch * steps + done + 1, steps * recipe.epochs
            raise diverged(training, what, *now, optimizer.param_groups[0]["lr"])
        optimizer.step()
        mean += (whole.item() - mean) / (done + 1)
        yield done + 1, mean
    objective.eval()


def _accuracy_after(training: Training, done: int, total: int, rate: float) -> float:
    """Return the test accuracy of weights that are worth a checkpoint; raises NotFinite."""
    state = training.victim.model.vit.state_dict()
    if wrong := next((name for name, tensor in state.items() if not tensor.isfinite().all()), None):
        raise diverged(training, wrong, done, total, rate)
    try:
        engine, bf16 = training.engine, training.recipe.bf16
        return accuracy_of(training.victim, training.test, engine, bf16=bf16)
    except NotFinite:
        what = "the answer to a test picture"
        raise diverged(training, what, done, total, rate) from None


def diverged(training: Training, what: str, done: int, total: int, rate: float) -> NotFinite:
    """Say where a training ended and which rate to begin anew with."""
    usual = training.victim.preset.recipe.lr
    weaker = ", or a weaker --defense," if "defense" in training.identity else ""
    lower = usual if usual < training.recipe.lr else training.recipe.lr / 10
    return NotFinite(
        f"The training diverged at step {done} of {total}, at a learning rate of {rate:.3g}: "
        f"{what} is NaN or infinite. No weights were written; begin anew with "
        f"--set train.lr={lower:.3g}{weaker} and another --out."
    )


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


def _undecayed(vit: nn.Module, recipe: Recipe) -> set[str]:
    if recipe.decay_positions:
        return set()
    ends = ("_embed", "_token")  # position tables and what stands before the patches
    return {name for name, _ in vit.named_parameters() if name.endswith(ends)}


@torch.no_grad()
def accuracy_of(
    victim: Victim, split: Split, engine: Accelerator | None = None, *, bf16: bool = False
) -> float:
    """Share of correct answers, without the defense's random draws; raises NotFinite."""
    model = victim.model
    device, right = model.vit.mean.device, torch.zeros((), device=model.vit.mean.device)
    process, processes = (engine.process_index, engine.num_processes) if engine else (0, 1)
    model.vit.eval()
    for start in range(process * EVALUATION_BATCH, len(split), processes * EVALUATION_BATCH):
        images, labels = split.load(range(start, min(start + EVALUATION_BATCH, len(split))))
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            found = model.logits(images.to(device))
        # all processes learn of it together: one that stopped alone would leave the others waiting
        right += (found.argmax(1) == labels.to(device)).sum() if found.isfinite().all() else nan
    whole = engine.reduce(right, reduction="sum") if engine else right
    assert isinstance(whole, Tensor)
    if not whole.isfinite():
        raise NotFinite("The model answers a test picture with NaN or infinity.")
    return whole.item() / len(split)
