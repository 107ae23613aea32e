"""How far the two sides of a linear system are off: as the wire or the defense says, or as read."""

from collections.abc import Mapping

from jaxtyping import Bool, Float
from torch import Tensor

from privbench.attacks._update.noise import deviations, floored, grid
from privbench.attacks._update.reading import in_its_units
from privbench.attacks._update.system import System
from privbench.attacks._update.wire import errors
from privbench.observation import Observation
from privbench.vit import ViT

NAMED = "noisy or has gaps as its defense says"
"""How a note calls an update whose errors the defense names."""


def wire_errors(seen: Observation, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the standard deviations that travelling leaves; empty where it leaves none."""
    return in_its_units(seen, shared, errors(seen))


def of_defense(seen: Observation) -> dict[str, Tensor]:
    """Return the standard deviations that the defense says of what was shared.

    What is added to each step's gradients adds up over the steps.
    """
    defense = seen.model.defense
    found = defense.deviations(seen.update.tensors, seen.shape[0] // seen.protocol.clients)
    root = (seen.protocol.local_steps if defense.per_example else 1) ** 0.5
    return {name: root * error for name, error in found.items()}


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
