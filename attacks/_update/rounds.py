"""What several rounds on one batch say together, where each carries what others left out."""

from dataclasses import replace

from privbench.observation import Observation


def joined(seen: Observation) -> Observation:
    """Return the observation with fewer updates that say as much, where the defense knows how.

    Only of rounds that share one gradient: of one client, under a defense that draws nothing.
    """
    defense = seen.model.defense
    if not seen.later or seen.protocol.clients > 1 or defense.changes("draw"):
        return seen
    first, *rest = defense.joined((seen.update, *seen.later))
    return replace(seen, update=first, later=tuple(rest))


def standing_for(seen: Observation) -> int:
    """Return how many rounds' updates the first one stands for, as `joined` left it."""
    return seen.protocol.rounds if seen.model.defense.feeds_back and not seen.later else 1
