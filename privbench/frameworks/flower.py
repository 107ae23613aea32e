"""A client mod for Flower that keeps what a client got and what it sent, on the client's disk.

Flower itself is not imported: a mod is any callable, so that one file serves all its versions.
"""

from collections.abc import Callable, Collection
from importlib import import_module
from math import inf, log
from pathlib import Path
from typing import Any

from privbench.frameworks.kept import AFTER, BEFORE, keep

TRAIN = "train"
"""Begins the type of messages with weights to be trained, in all of Flower's interfaces."""
ROUND = ("server-round", "server_round")
"""What Flower's strategies, or a user's own, call a client's round."""


class KeepUpdates:
    """Keeps weights before and after chosen rounds; stands first among a ClientApp's mods.

    There it sees what leaves the client, after all other mods: `ClientApp(mods=[
    KeepUpdates("kept"), LocalDpMod(...)])`. Files are `kept/round-1/client-0/before.npz` and
    `after.npz`, for `privbench audit`; nothing is sent anywhere.
    """

    def __init__(self, folder: str | Path, rounds: Collection[int] = (1,)) -> None:
        self.folder, self.rounds = Path(folder), frozenset(rounds)

    def __call__(self, message: Any, context: Any, call_next: Callable[[Any, Any], Any]) -> Any:
        """Pass the message on, and keep both sides of it."""
        number = _round(message)
        wanted = message.metadata.message_type.startswith(TRAIN) and number in self.rounds
        before = _weights(message) if wanted else None  # the client may write into them
        reply = call_next(message, context)
        if before is None or reply.has_error():
            return reply
        client = context.node_config.get("partition-id", context.node_id)
        place = self.folder / f"round-{number}" / f"client-{client}"
        keep(place / BEFORE, before)
        keep(place / AFTER, _weights(reply))
        return reply


def deviation(mod: Any) -> float:
    """Return the standard deviation of the noise that a LocalDpMod adds to each weight."""
    return mod.sensitivity * (2 * log(1.25 / mod.delta)) ** 0.5 / mod.epsilon


def epsilon(mod: Any) -> float:
    """Return the epsilon that a LocalDpMod's noise gives one answer of a client, at its delta.

    By the analytic Gaussian mechanism (Balle and Wang, arXiv:1805.06530). Any two answers, clipped
    to the mod's norm, are up to twice that apart, whatever sensitivity the mod was told.
    """
    if not mod.sensitivity:
        return inf
    accounting = import_module("dp_accounting")  # comes with the extra alone
    scale = deviation(mod) / (2 * mod.clipping_norm)
    return float(accounting.get_epsilon_gaussian(scale, mod.delta))


def _round(message: Any) -> int | None:
    """Return a message's round: from its settings, or from the group that it belongs to."""
    records = message.content.config_records.values()
    told = [record[key] for record in records for key in ROUND if key in record]
    group = message.metadata.group_id
    if told:
        return int(told[0])
    return int(group) if group.isdecimal() else None


def _weights(message: Any) -> dict[str, Any]:
    records = message.content.array_records.values()
    return {key: array.numpy().copy() for record in records for key, array in record.items()}
