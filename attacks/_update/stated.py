"""How far the two sides of a linear system are off: as the wire or the defense says, or as read."""

from collections.abc import Mapping
from functools import reduce

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from privbench.attacks._update.noise import deviations, floored, grid, pruned, pruning
from privbench.attacks._update.reading import in_its_units
from privbench.attacks._update.rounds import standing_for
from privbench.attacks._update.system import System
from privbench.attacks._update.wire import errors
from privbench.observation import Observation
from privbench.threat import Protocol
from privbench.vit import ViT

NAMED = "noisy or has gaps as its defense says"
"""How a note calls an update whose errors the defense names."""
AGREE = 20
"""How often sizes of errors and of one round's update are made to agree; at noise as large as the
gradient each brings them twice as near."""


def wire_errors(seen: Observation, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the standard deviations that travelling leaves; empty where it leaves none."""
    return in_its_units(seen, shared, errors(seen))


def of_defense(seen: Observation) -> dict[str, Tensor]:
    """Return the standard deviations that the defense says of what was shared.

    What is added to each step's gradients adds up over the steps. Each client has errors of its
    own, of which their mean is shared, and so has each round that was joined to others. One
    client's update is taken to be as much larger than the mean as where clients have nothing in
    common: on trained weights their gradients are as good as orthogonal. One round's is larger by
    its errors, at the most as if it were nothing else.
    """
    defense, protocol, shared = seen.model.defense, seen.protocol, seen.update.tensors
    batch = protocol.batch_size if protocol.pictures else seen.shape[0] // protocol.clients
    steps = _steps(protocol) if defense.per_example else 1.0
    rounds = 1 if defense.feeds_back else standing_for(seen)
    root, own = (steps / protocol.clients) ** 0.5, protocol.clients**0.5

    def of_one(sizes: Mapping[str, float]) -> dict[str, Tensor]:
        larger = {name: sizes[name] * own * tensor for name, tensor in shared.items()}
        return {n: root * error for n, error in defense.deviations(larger, batch).items()}

    if root == own == 1 and rounds == 1:
        return defense.deviations(shared, batch)
    found = of_one(dict.fromkeys(shared, 1.0))
    for _ in range(AGREE if rounds > 1 else 0):
        sizes = {}
        for name, tensor in shared.items():
            error, size = found.get(name), tensor.double().square().mean()
            more = 0.0 if error is None or not size else error.square().mean() / size
            sizes[name] = min(float(1 + (1 - 1 / rounds) * more), rounds) ** 0.5
        found = of_one(sizes)
    return {name: error / rounds**0.5 for name, error in found.items()}


def _steps(protocol: Protocol) -> float:
    """Return sum of squares of the weights that all steps' gradients have in one client's update.

    Momentum carries a gradient on into every step after its own.
    """
    total, weight = 0.0, 0.0
    for _ in range(protocol.steps):
        weight = protocol.momentum * weight + 1
        total += weight**2
    return total


def system_errors(
    seen: Observation,
    shared: Mapping[str, Tensor],
    system: System,
    shown: Bool[Tensor, " n"] | None = None,
) -> tuple[Float[Tensor, "r d"], Float[Tensor, "d p"], str]:
    """Return standard deviations of token and embedding gradient, and what kind they are of.

    Of the token gradient's rows that are shown, or of all. What the wire leaves comes on top of
    what the defense does.
    """
    rows = slice(None) if shown is None else shown
    token, embedding = system.token[rows], system.embedding
    known, stated = wire_errors(seen, shared), {}
    if seen.protocol.optimizer == "sgd":  # what lies on AdamW's steps is not undone with them
        stated = in_its_units(seen, shared, of_defense(seen))
    if not (known or stated):
        return deviations(token, embedding)
    told = [_sides(seen, system, one, rows) for one in (known, stated) if one]
    kind = NAMED if stated else "rounded"
    gaps = seen.model.defense.changes("measured") and (pruned(token) or pruned(embedding))
    if gaps and not stated:  # all that is known of them is what the other entries show
        told, kind = [*told, (pruning(token), pruning(embedding))], "pruned"
    of_token, of_embedding = (reduce(torch.hypot, each) for each in zip(*told, strict=True))
    if not stated:
        return of_token, of_embedding, kind
    short = grid(token)
    if not known and short and short == grid(embedding):
        kind = f"rounded to {short}"
    return floored(of_token, token), floored(of_embedding, embedding), kind


def _sides(
    seen: Observation, system: System, errors: Mapping[str, Tensor], rows: slice | Tensor
) -> tuple[Tensor, Tensor]:
    """Return those of token and embedding gradient, in the system's units."""
    of_token = errors[ViT.POSITIONS][0, seen.model.vit.prefix :][rows]
    return of_token, errors[ViT.PROJECTION].flatten(1) / system.scale
