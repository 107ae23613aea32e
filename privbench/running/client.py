"""The one door: a private batch becomes what the server sees and what the client keeps."""

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from privbench.client_step import ClientStep, Slopes
from privbench.errors import BadUpdate
from privbench.observation import Observation, PublicModel
from privbench.seeds import generator
from privbench.threat import (
    Images,
    Knowledge,
    Protocol,
    Randomness,
    Secret,
    ThreatModel,
    Update,
)
from privbench.variants import drop_by
from privbench.victims.load import Victim
from privbench.vit import ViT
from privbench.wire import mean, sent

NARROW = " Or take threat.precision=bfloat16, whose range is that of float32."


def share(
    victim: Victim,
    images: Images,
    labels: Int[Tensor, " b"],
    threat: ThreatModel,
    seed: tuple[object, ...],
) -> tuple[Observation, Secret]:
    """Compute a client's update on a private batch.

    The draws depend on the seed alone, so that all attacks on a victim, and all victims with the
    same scheme, face the same mask; all local steps of a round share one draw. Several clients
    have equal parts of the batch. Nothing that the observation holds aliases the secret. Raises
    BadUpdate if local training diverges, or if the update is not finite.
    """
    vit, defense = victim.model.vit, victim.model.defense
    update, draws = _mean(victim.model, images, labels, threat.protocol, seed)
    later = [
        _mean(victim.model, images, labels, threat.protocol, (*seed, "round", number))[0]
        for number in range(1, threat.rounds)
    ]
    parts = images.chunk(threat.clients)
    fed = torch.cat([defense.feed(vit, *each) for each in zip(parts, draws, strict=True)])
    draw = together(draws)
    b, c, h, w = images.shape
    told = Knowledge.LABELS in threat.knows
    seen = Observation(
        model=victim.model,
        update=update,
        shape=(b, c, h, w),
        knows=threat.knows,
        labels=labels.clone() if told else None,
        protocol=threat.protocol,
        later=tuple(later),
    )
    return seen, Secret(images.clone(), fed.clone(), labels.clone(), draw)


def _mean(
    model: PublicModel,
    images: Images,
    labels: Int[Tensor, " b"],
    protocol: Protocol,
    seed: tuple[object, ...],
) -> tuple[Update, list[Randomness | None]]:
    """Return the mean of all clients' updates, and each one's draw."""
    batches = zip(images.chunk(protocol.clients), labels.chunk(protocol.clients), strict=True)
    met = [
        answer(model, *batch, protocol, (*seed, "client", number) if number else seed)
        for number, batch in enumerate(batches)
    ]
    return mean([update for update, _ in met]), [draw for _, draw in met]


def answer(
    model: PublicModel,
    images: Images,
    labels: Int[Tensor, " b"],
    protocol: Protocol,
    seed: tuple[object, ...],
) -> tuple[Update, Randomness | None]:
    """Draw what the defense needs, compute an update, defend it and send it.

    One client's answer to the server's weights: the update, and the draw, which stays with it.
    Raises BadUpdate if local training diverges, or if the update is not finite.
    """
    defense = model.defense
    draw = defense.draw(model.vit, len(images), generator("draw", *seed))
    gradient = local_update(model, images, labels, draw, protocol, generator("dropout", *seed))
    withheld = defense.withholds(gradient)
    shared = {name: t.detach().clone() for name, t in gradient.items() if name not in withheld}
    update = defense.protect(Update(shared, withheld), generator("protect", *seed))
    update = sent(update, model.vit.trained(), protocol)
    for name, tensor in update.tensors.items():
        if not tensor.isfinite().all():
            raise BadUpdate(
                f"The client's update is NaN or infinite in {name}, so there is nothing to attack. "
                "Look at the model's weights and at the defense's settings."
                + ("" if protocol.precision == "float32" else NARROW)
            )
    return update, draw


def local_update(
    model: PublicModel,
    images: Images,
    labels: Int[Tensor, " b"],
    draw: Randomness | None,
    protocol: Protocol,
    rng: Generator,
) -> dict[str, Tensor]:
    """Sum of what the optimizer subtracts step by step, in units of the learning rate.

    One step of SGD gives the gradient. Its sum is taken before the steps are rounded into the
    weights, which costs float32 several digits: where weights travel, `sent` rounds the sum into
    them. AdamW's is what its float32 weights changed by. The model stays as it is; dropout masks
    come from rng, new ones at each step, and so does what the defense adds to a gradient. Raises
    BadUpdate if the steps diverge.
    """
    vit = model.vit
    if protocol.local_steps > 1 or protocol.training or protocol.optimizer != "sgd":
        vit = copy.deepcopy(vit)  # other threads run on the shared one
    if protocol.training:
        drop_by(vit, rng, vit.mean.device)
    step = ClientStep(vit, model.defense)
    run = partial(step.run, images, labels, draw, rng)
    take = _adamw if protocol.optimizer == "adamw" else _sgd
    total = take(vit, run, protocol)
    if protocol.local_steps > 1 and not all(t.isfinite().all() for t in total.values()):
        raise BadUpdate(
            f"The client's {protocol.local_steps} local steps diverged. "
            f"Take a threat.local_rate below {protocol.local_rate:g}."
        )
    return total


def _sgd(vit: ViT, run: Callable[[], Slopes], protocol: Protocol) -> dict[str, Tensor]:
    velocity = run().gradient
    total = dict(velocity)
    for _ in range(protocol.local_steps - 1):
        with torch.no_grad():
            for name, parameter in vit.trained().items():
                parameter -= protocol.local_rate * velocity[name]
        for name, slope in run().gradient.items():
            velocity[name] = protocol.momentum * velocity[name] + slope
            total[name] = total[name] + velocity[name]
    return total


def _adamw(vit: ViT, run: Callable[[], Slopes], protocol: Protocol) -> dict[str, Tensor]:
    trained = vit.trained()
    before = {name: parameter.detach().clone() for name, parameter in trained.items()}
    optimizer = torch.optim.AdamW(trained.values(), lr=protocol.local_rate)
    for _ in range(protocol.local_steps):
        for name, slope in run().gradient.items():
            trained[name].grad = slope
        optimizer.step()
    return {n: (before[n] - p.detach()) / protocol.local_rate for n, p in trained.items()}


def together(draws: Sequence[Randomness | None]) -> Randomness | None:
    """Return several clients' draws as one: their rows, one client's after the other's."""
    given = [draw for draw in draws if draw is not None]
    if len(draws) == 1 or not given:
        return draws[0]
    rows = zip(*(draw.tensors() for draw in given), strict=True)
    return given[0].map(lambda _: torch.cat(next(rows)))
