"""What rounds on one batch say together, where each carries what others left out or blur."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from privbench.defense import Defense
from privbench.observation import Observation
from privbench.threat import Update
from privbench.wire import mean


def joined(seen: Observation) -> Observation:
    """Return the observation with fewer updates that say as much, where the defense knows how.

    Only of rounds that share one gradient: under a defense that draws nothing, and where it feeds
    back, of one client. Noise that each round drew anew is less in their mean.
    """
    defense, updates = seen.model.defense, (seen.update, *seen.later)
    if not seen.later or defense.changes("draw"):
        return seen
    if not seen.protocol.training and _averages(defense, updates):
        return replace(seen, update=mean(updates), later=())
    if seen.protocol.clients > 1:
        return seen
    first, *rest = defense.joined(updates)
    return replace(seen, update=first, later=tuple(rest))


def together(defense: Defense, updates: Sequence[Update]) -> Update:
    """Return what these updates of as many rounds are joined to, of a defense that allows it."""
    return defense.joined(updates)[0] if defense.feeds_back else mean(updates)


def standing_for(seen: Observation) -> int:
    """Return how many rounds' updates the first one stands for, as `joined` left it."""
    return 1 if seen.later else seen.protocol.rounds


def _averages(defense: Defense, updates: Sequence[Update]) -> bool:
    """Whether rounds differ by errors alone whose size the defense names, in all entries."""
    first, second = (one.tensors for one in updates[:2])
    if defense.feeds_back or all(torch.equal(first[name], second[name]) for name in first):
        return False
    return bool(defense.deviations(first)) and not defense.measured(first)
