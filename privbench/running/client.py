"""The one door: a private batch becomes what the server sees and what the client keeps."""

import copy

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from privbench.errors import BadUpdate
from privbench.observation import Observation, PublicModel
from privbench.seeds import generator
from privbench.threat import Draw, Images, Knowledge, Protocol, Secret, ThreatModel, Update
from privbench.variants import drop_by
from privbench.victims.load import Victim
from privbench.vit import ViT


def share(
    victim: Victim,
    images: Images,
    labels: Int[Tensor, " b"],
    threat: ThreatModel,
    seed: tuple[object, ...],
) -> tuple[Observation, Secret]:
    """Compute a client's update on a private batch.

    The dice depend on the seed alone, so that all attacks on a victim, and all victims with the
    same scheme, face the same mask; all local steps of a round share one throw. Nothing that the
    observation holds aliases the secret. Raises BadUpdate if local training diverges.
    """
    vit, defense = victim.model.vit, victim.model.defense
    update, draw = _round(victim.model, images, labels, threat.protocol, seed)
    later = [
        _round(victim.model, images, labels, threat.protocol, (*seed, "round", number))[0]
        for number in range(1, threat.rounds)
    ]
    fed = defense.feed(vit, images, draw)
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


def _round(
    model: PublicModel,
    images: Images,
    labels: Int[Tensor, " b"],
    protocol: Protocol,
    seed: tuple[object, ...],
) -> tuple[Update, Draw | None]:
    """Throw the dice, compute an update and defend it."""
    defense = model.defense
    draw = defense.draw(model.vit, len(images), generator("draw", *seed))
    gradient = local_update(model, images, labels, draw, protocol, generator("dropout", *seed))
    withheld = defense.withholds(gradient)
    shared = {name: t.detach().clone() for name, t in gradient.items() if name not in withheld}
    return defense.protect(Update(shared, withheld), generator("protect", *seed)), draw


def local_update(
    model: PublicModel,
    images: Images,
    labels: Int[Tensor, " b"],
    draw: Draw | None,
    protocol: Protocol,
    rng: Generator,
) -> dict[str, Tensor]:
    """Sum of what SGD with momentum subtracts step by step, in units of the learning rate.

    One step gives the gradient. The sum is taken before the steps are rounded into the weights,
    which costs float32 several digits. The model stays as it is; dropout masks come from rng, new
    ones at each step. Raises BadUpdate if the steps diverge.
    """
    vit = model.vit
    if protocol.local_steps > 1 or protocol.training:
        vit = copy.deepcopy(vit)  # other threads run on the shared one
    if protocol.training:
        drop_by(vit, rng, vit.mean.device)
    velocity = _gradient(model, vit, images, labels, draw)
    total = dict(velocity)
    for _ in range(protocol.local_steps - 1):
        with torch.no_grad():
            for name, parameter in vit.trained().items():
                parameter -= protocol.local_rate * velocity[name]
        for name, slope in _gradient(model, vit, images, labels, draw).items():
            velocity[name] = protocol.momentum * velocity[name] + slope
            total[name] = total[name] + velocity[name]
    if protocol.local_steps > 1 and not all(t.isfinite().all() for t in total.values()):
        raise BadUpdate(
            f"The client's {protocol.local_steps} local steps diverged. "
            f"Take a threat.local_rate below {protocol.local_rate:g}."
        )
    return total


def _gradient(
    model: PublicModel, vit: ViT, images: Images, labels: Tensor, draw: Draw | None
) -> dict[str, Tensor]:
    found = model.defense.gradient(vit, images, labels, draw)
    for name, part in model.defense.penalty_gradient(vit, draw).items():
        found[name] = found[name] + part
    return found
