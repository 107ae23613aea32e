"""The one door: a private batch becomes what the server sees and what the client keeps."""

import hashlib

from jaxtyping import Int
from torch import Generator, Tensor

from privbench.observation import Observation
from privbench.threat import Images, Knowledge, Secret, ThreatModel, Update
from privbench.victim import Victim


def generator(*names: object) -> Generator:
    """Return a generator whose seed is a hash of names: no order of work changes it."""
    digest = hashlib.sha256(repr(names).encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def share(
    victim: Victim,
    images: Images,
    labels: Int[Tensor, " b"],
    threat: ThreatModel,
    seed: tuple[object, ...],
) -> tuple[Observation, Secret]:
    """Compute a client's update on a private batch.

    The dice depend on the seed alone, so that all attacks on a victim, and all victims with the
    same scheme, face the same mask. Nothing that the observation holds aliases the secret.
    """
    vit, defense = victim.model.vit, victim.model.defense
    draw = defense.draw(vit, len(images), generator("draw", *seed))
    gradient = defense.gradient(vit, images, labels, draw)
    for name, part in defense.penalty_gradient(vit, draw).items():
        gradient[name] = gradient[name] + part
    withheld = defense.withholds(gradient)
    shared = {name: t.detach().clone() for name, t in gradient.items() if name not in withheld}
    update = defense.protect(Update(shared, withheld), generator("protect", *seed))
    fed = defense.feed(vit, images, draw)
    b, c, h, w = images.shape
    told = Knowledge.LABELS in threat.knows
    seen = Observation(
        model=victim.model,
        update=update,
        shape=(b, c, h, w),
        knows=threat.knows,
        labels=labels.clone() if told else None,
    )
    return seen, Secret(images.clone(), fed.clone(), labels.clone(), draw)
