"""How far the two sides of a linear system are off: as the wire or the defense says, or as read."""

from collections.abc import Mapping

from jaxtyping import Bool, Float
from torch import Tensor

from privbench.attacks._update.noise import deviations, floored, grid
from privbench.attacks._update.reading import in_its_units
from privbench.attacks._update.system import System
from privbench.attacks._update.wire import errors
from privbench.observation import Observation
from privbench.threat import Protocol
from privbench.vit import ViT

NAMED = "noisy or has gaps as its defense says"
"""How a note calls an update whose errors the defense names."""


def wire_errors(seen: Observation, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the standard deviations that travelling leaves; empty where it leaves none."""
    return in_its_units(seen, shared, errors(seen))


def of_defense(seen: Observation) -> dict[str, Tensor]:
    """Return the standard deviations that the defense says of what was shared.

    What is added to each step's gradients adds up over the steps, and is averaged over clients.
    """
    defense, protocol = seen.model.defense, seen.protocol
    batch = protocol.batch_size if protocol.pictures else seen.shape[0] // protocol.clients
    found = defense.deviations(seen.update.tensors, batch)
    if not defense.per_example:
        return found
    root = (_steps(protocol) / protocol.clients) ** 0.5
    return {name: root * error for name, error in found.items()}


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

    Of the token gradient's rows that are shown, or of all.
    """
    rows = slice(None) if shown is None else shown
    token, embedding = system.token[rows], system.embedding
    known, stated = wire_errors(seen, shared), {}
    if not known:
        stated = in_its_units(seen, shared, of_defense(seen))
    either = known or stated
    if not either:
        return deviations(token, embedding)
    of_token = either[ViT.POSITIONS][0, seen.model.vit.prefix :][rows]
    of_embedding = either[ViT.PROJECTION].flatten(1) / system.scale
    if known:
        return of_token, of_embedding, "rounded"
    short = grid(token)
    kind = f"rounded to {short}" if short and short == grid(embedding) else NAMED
    return floored(of_token, token), floored(of_embedding, embedding), kind
