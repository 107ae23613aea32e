"""What a client's optimizer makes of its batches, one step each."""

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from privbench.client_step import ClientStep, Slopes
from privbench.errors import BadUpdate
from privbench.observation import PublicModel
from privbench.threat import Protocol, Randomness
from privbench.variants import drop_by
from privbench.vit import ViT

Batch = tuple[Float[Tensor, "_ 3 h w"], Int[Tensor, " _"], Randomness | None]
"""Pictures and labels of one step, and what the defense drew for it."""
Run = Callable[[Batch], Slopes]


def steps_on(
    model: PublicModel,
    batches: Sequence[Batch],
    protocol: Protocol,
    rng: Generator,
    earlier: Sequence[Batch] = (),
) -> dict[str, Tensor]:
    """Sum of what the optimizer subtracts batch by batch, in units of the learning rate.

    One step of SGD gives the gradient. Its sum is taken before the steps are rounded into the
    weights, which costs float32 several digits: where weights travel, `sent` rounds the sum into
    them. AdamW's is what its float32 weights changed by; earlier batches are those that its state
    is from, each met at the weights that the server sends. The model stays as it is; dropout masks
    come from rng, new ones at each step, and so does what the defense adds to a gradient. Raises
    BadUpdate if the steps diverge.
    """
    vit = model.vit
    if len(batches) > 1 or protocol.training or protocol.optimizer != "sgd":
        vit = copy.deepcopy(vit)  # other threads run on the shared one
    if protocol.training:
        drop_by(vit, rng, vit.mean.device)
    step = ClientStep(vit, model.defense)
    run = partial(_run, step, rng)
    if protocol.optimizer == "adamw":
        total = _adamw(vit, run, batches, protocol, earlier)
    else:
        total = _sgd(vit, run, batches, protocol)
    if len(batches) > 1 and not all(t.isfinite().all() for t in total.values()):
        raise BadUpdate(
            f"The client's {len(batches)} local steps diverged. "
            f"Take a threat.local_rate below {protocol.local_rate:g}."
        )
    return total


def _run(step: ClientStep, rng: Generator, batch: Batch) -> Slopes:
    images, labels, draw = batch
    return step.run(images, labels, draw, rng)


def _sgd(vit: ViT, run: Run, batches: Sequence[Batch], protocol: Protocol) -> dict[str, Tensor]:
    velocity = run(batches[0]).gradient
    total = dict(velocity)
    for batch in batches[1:]:
        with torch.no_grad():
            for name, parameter in vit.trained().items():
                parameter -= protocol.local_rate * velocity[name]
        for name, slope in run(batch).gradient.items():
            velocity[name] = protocol.momentum * velocity[name] + slope
            total[name] = total[name] + velocity[name]
    return total


def _adamw(
    vit: ViT,
    run: Run,
    batches: Sequence[Batch],
    protocol: Protocol,
    earlier: Sequence[Batch],
) -> dict[str, Tensor]:
    trained = vit.trained()
    before = {name: parameter.detach().clone() for name, parameter in trained.items()}
    optimizer = torch.optim.AdamW(trained.values(), lr=protocol.local_rate)

    def take(batch: Batch) -> None:
        for name, slope in run(batch).gradient.items():
            trained[name].grad = slope
        optimizer.step()

    for batch in earlier:
        take(batch)
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(before[name])
    for batch in batches:
        take(batch)
    return {n: (before[n] - p.detach()) / protocol.local_rate for n, p in trained.items()}
