"""The one door: a private batch becomes what the server sees and what the client keeps."""

import copy

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from privbench.client_step import ClientStep
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


def share(
    victim: Victim,
    images: Images,
    labels: Int[Tensor, " b"],
    threat: ThreatModel,
    seed: tuple[object, ...],
) -> tuple[Observation, Secret]:
    """Compute a client's update on a private batch.

    The draws depend on the seed alone, so that all attacks on a victim, and all victims with the
    same scheme, face the same mask; all local steps of a round share one draw. Nothing that the
    observation holds aliases the secret. Raises BadUpdate if local training diverges, or if the
    update is not finite.
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
) -> tuple[Update, Randomness | None]:
    """Draw what the defense needs, compute an update and defend it."""
    defense = model.defense
    draw = defense.draw(model.vit, len(images), generator("draw", *seed))
    gradient = local_update(model, images, labels, draw, protocol, generator("dropout", *seed))
    withheld = defense.withholds(gradient)
    shared = {name: t.detach().clone() for name, t in gradient.items() if name not in withheld}
    update = defense.protect(Update(shared, withheld), generator("protect", *seed))
    for name, tensor in update.tensors.items():
        if not tensor.isfinite().all():
            raise BadUpdate(
                f"The client's update is NaN or infinite in {name}, so there is nothing to attack. "
                "Look at the model's weights and at the defense's settings."
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
    """Sum of what SGD with momentum subtracts step by step, in units of the learning rate.

    One step gives the gradient. The sum is taken before the steps are rounded into the weights,
    which costs float32 several digits. The model stays as it is; dropout masks come from rng, new
    ones at each step, and so does what the defense adds to a gradient. Raises BadUpdate if the
    steps diverge.
    """
    vit = model.vit
    if protocol.local_steps > 1 or protocol.training:
        vit = copy.deepcopy(vit)  # other threads run on the shared one
    if protocol.training:
        drop_by(vit, rng, vit.mean.device)
    step = ClientStep(vit, model.defense)
    velocity = step.run(images, labels, draw, rng).gradient
    total = dict(velocity)
    for _ in range(protocol.local_steps - 1):
        with torch.no_grad():
            for name, parameter in vit.trained().items():
                parameter -= protocol.local_rate * velocity[name]
        for name, slope in step.run(images, labels, draw, rng).gradient.items():
            velocity[name] = protocol.momentum * velocity[name] + slope
            total[name] = total[name] + velocity[name]
    if protocol.local_steps > 1 and not all(t.isfinite().all() for t in total.values()):
        raise BadUpdate(
            f"The client's {protocol.local_steps} local steps diverged. "
            f"Take a threat.local_rate below {protocol.local_rate:g}."
        )
    return total
