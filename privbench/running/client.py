"""The one door: a private batch becomes what the server sees and what the client keeps."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from privbench.errors import BadUpdate
from privbench.observation import Observation, PublicModel
from privbench.running.steps import Batch, steps_on
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
from privbench.victims.load import Victim
from privbench.wire import mean, sent

Pictures = tuple[Float[Tensor, "_ 3 h w"], Int[Tensor, " _"]]
"""With their labels."""
Epoch = list[tuple[Int[Tensor, " _"], Batch]]
"""Rows of a client's pictures, and the batch that they make, step by step."""
NARROW = " Or take threat.precision=bfloat16, whose range is that of float32."


def share(
    victim: Victim,
    images: Images,
    labels: Int[Tensor, " b"],
    threat: ThreatModel,
    seed: tuple[object, ...],
    earlier: Pictures | None = None,
) -> tuple[Observation, Secret]:
    """Compute a client's update on its private pictures.

    The draws depend on the seed alone, so that all attacks on a victim, and all victims with the
    same scheme, face the same mask. On one batch all local steps of a round share one draw; where
    a client takes several, each step has its own, and the secret keeps those of the first epoch.
    Several clients have equal parts of the pictures, and of the earlier ones, which their
    optimizers' states are from. Nothing that the observation holds aliases the secret. Raises
    BadUpdate if local training diverges, or if the update is not finite.
    """
    told = threat.protocol
    if threat.warmup and earlier is None:
        raise ValueError("a warm optimizer needs the pictures that its state is from")
    (update, *later), first = _means(victim.model, (images, labels), earlier, told, seed)
    b, c, h, w = images.shape
    granted = Knowledge.LABELS in threat.knows
    seen = Observation(
        model=victim.model,
        update=update,
        shape=(b, c, h, w),
        knows=threat.knows,
        labels=labels.clone() if granted else None,
        protocol=told,
        later=tuple(later),
    )
    fed, draw = _by_picture(victim.model, first)
    return seen, Secret(images.clone(), fed.clone(), labels.clone(), draw)


def drawn(
    model: PublicModel,
    images: Images,
    labels: Int[Tensor, " b"],
    protocol: Protocol,
    seed: tuple[object, ...],
) -> tuple[Images, Randomness | None]:
    """Return the network input and the draws of `share`, by picture, without any gradient."""
    clients = enumerate(_chunks((images, labels), protocol.clients))
    first = [_epochs(model, held, protocol, _own(seed, number))[0] for number, held in clients]
    return _by_picture(model, first)


def _by_picture(model: PublicModel, first: Sequence[Epoch]) -> tuple[Images, Randomness | None]:
    """Return what all clients fed and drew in their first epochs, in the pictures' order."""
    met = [_in_order(model, epoch) for epoch in first]
    return torch.cat([inputs for inputs, _ in met]), together([draw for _, draw in met])


def _own(seed: tuple[object, ...], client: int) -> tuple[object, ...]:
    """Return a client's seed; the first one's is that of the case."""
    return (*seed, "client", client) if client else seed


def _means(
    model: PublicModel,
    pictures: Pictures,
    earlier: Pictures | None,
    protocol: Protocol,
    seed: tuple[object, ...],
) -> tuple[list[Update], list[Epoch]]:
    """Return the mean of all clients' updates in each round, and each one's first epoch."""
    held = _chunks(pictures, protocol.clients)
    before = [None] * len(held) if earlier is None else _chunks(earlier, protocol.clients)
    seeds = [(*seed, "round", number) if number else seed for number in range(protocol.rounds)]
    met = [
        _answers(model, *each, protocol, [_own(s, n) for s in seeds])
        for n, each in enumerate(zip(held, before, strict=True))
    ]
    rounds = zip(*(updates for updates, _ in met), strict=True)
    return [mean(updates) for updates in rounds], [epoch for _, epoch in met]


def _chunks(pictures: Pictures, clients: int) -> list[Pictures]:
    return list(zip(*(part.chunk(clients) for part in pictures), strict=True))


def answer(
    model: PublicModel,
    held: Pictures,
    earlier: Pictures | None,
    protocol: Protocol,
    seed: tuple[object, ...],
) -> tuple[Update, Epoch]:
    """Draw what the defense needs, compute an update, defend it and send it.

    One client's answer to the server's weights: the update, and its first epoch with the draws,
    which stay with the client. Raises BadUpdate if local training diverges, or if the update is
    not finite.
    """
    (update,), epoch = _answers(model, held, earlier, protocol, [seed])
    return update, epoch


def _answers(
    model: PublicModel,
    held: Pictures,
    earlier: Pictures | None,
    protocol: Protocol,
    seeds: Sequence[tuple[object, ...]],
) -> tuple[list[Update], Epoch]:
    """Return a client's updates in rounds of these seeds, and the first epoch of the first."""
    computed = [_computed(model, held, earlier, protocol, seed) for seed in seeds]
    rngs = [generator("protect", *seed) for seed in seeds]
    weights = model.vit.trained()
    protected = model.defense.protect_rounds([update for update, _ in computed], rngs)
    updates = [sent(update, weights, protocol) for update in protected]
    for name, tensor in (pair for update in updates for pair in update.tensors.items()):
        if not tensor.isfinite().all():
            raise BadUpdate(
                f"The client's update is NaN or infinite in {name}, so there is nothing to attack. "
                "Look at the model's weights and at the defense's settings."
                + ("" if protocol.precision == "float32" else NARROW)
            )
    return updates, computed[0][1]


def _computed(
    model: PublicModel,
    held: Pictures,
    earlier: Pictures | None,
    protocol: Protocol,
    seed: tuple[object, ...],
) -> tuple[Update, Epoch]:
    """Return an update before it is defended, without what is withheld, and its first epoch."""
    epochs = _epochs(model, held, protocol, seed)
    gradient = steps_on(
        model,
        [batch for epoch in epochs for _, batch in epoch],
        protocol,
        generator("dropout", *seed),
        _earlier(model, earlier, protocol, seed),
    )
    withheld = model.defense.withholds(gradient)
    shared = {name: t.detach().clone() for name, t in gradient.items() if name not in withheld}
    return Update(shared, withheld), epochs[0]


def _epochs(
    model: PublicModel, held: Pictures, protocol: Protocol, seed: tuple[object, ...]
) -> list[Epoch]:
    """Return the batches of each epoch: one batch, or all pictures in an order of the client's."""
    images, labels = held
    if not protocol.pictures:
        draw = model.defense.draw(model.vit, len(images), generator("draw", *seed))
        return [[(torch.arange(len(images)), (images, labels, draw))]] * protocol.local_steps
    order = generator("order", *seed)
    found: list[Epoch] = []
    for number in range(protocol.epochs):
        epoch: Epoch = []
        for rows in torch.randperm(len(images), generator=order).split(protocol.batch_size):
            rng = generator("draw", *seed, "step", number, len(epoch))
            draw = model.defense.draw(model.vit, len(rows), rng)
            epoch.append((rows, (images[rows], labels[rows], draw)))
        found.append(epoch)
    return found


def _earlier(
    model: PublicModel, pictures: Pictures | None, protocol: Protocol, seed: tuple[object, ...]
) -> list[Batch]:
    """Return the batches that a client's optimizer has its state from."""
    if pictures is None:
        return []
    sizes = zip(*(part.split(protocol.batch_size) for part in pictures), strict=True)
    rngs = (generator("draw", *seed, "earlier", number) for number in range(protocol.warmup))
    return [
        (images, labels, model.defense.draw(model.vit, len(images), rng))
        for (images, labels), rng in zip(sizes, rngs, strict=True)
    ]


def _in_order(model: PublicModel, epoch: Epoch) -> tuple[Images, Randomness | None]:
    """Return the network input of an epoch and its draws, by picture."""
    inputs = torch.cat([model.defense.feed(model.vit, i, draw) for _, (i, _, draw) in epoch])
    draw = together([draw for _, (_, _, draw) in epoch])
    if len(epoch) == 1:
        return inputs, draw
    place = torch.cat([rows for rows, _ in epoch]).argsort()
    return inputs[place], draw and draw.map(lambda tensor: tensor[place])


def local_update(
    model: PublicModel,
    images: Images,
    labels: Int[Tensor, " b"],
    draw: Randomness | None,
    protocol: Protocol,
    rng: Generator,
) -> dict[str, Tensor]:
    """Sum of what all local steps on one batch and one draw subtract; raises BadUpdate."""
    return steps_on(model, [(images, labels, draw)] * protocol.local_steps, protocol, rng)


def together(draws: Sequence[Randomness | None]) -> Randomness | None:
    """Return several clients' draws as one: their rows, one client's after the other's."""
    given = [draw for draw in draws if draw is not None]
    if len(draws) == 1 or not given:
        return draws[0]
    rows = zip(*(draw.tensors() for draw in given), strict=True)
    return given[0].map(lambda _: torch.cat(next(rows)))
