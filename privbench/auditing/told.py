"""What the attacks of an audit are told of the client: how it stepped, what it sent, its noise."""

from dataclasses import replace
from typing import cast

from privbench.auditing.update import Client, Difference
from privbench.component import make
from privbench.defense import Defense
from privbench.observation import PublicModel
from privbench.stack import Stack
from privbench.threat import Protocol

NOISE = "noise"
"""The defense that adds to an update what --noise names."""


def protocol(client: Client, update: Difference, *, weights: bool) -> Protocol:
    """Return the client as a threat model has it; an unknown rate is the update's unit.

    Noise covers what rounding did, and is measured by attacks that weigh errors.
    """
    return Protocol(
        local_steps=client.steps,
        local_rate=client.rate or 1.0,
        wire="weights" if weights and not client.noise else "gradient",
        precision="float32" if client.noise else update.sent,
        optimizer=client.optimizer,
    )


def noisy(model: PublicModel, noise: float) -> PublicModel:
    """Return a model whose client adds noise of a standard deviation, in units of the update."""
    if not noise:
        return model
    added = cast(Defense, make(Defense, NOISE, {"sigma": noise, "relative": False}))
    return replace(model, defense=Stack(parts=(model.defense, added)))
