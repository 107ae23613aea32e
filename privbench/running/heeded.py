"""A threat model's settings that would change nothing but the label of a row are refused."""

from collections.abc import Collection

from privbench.attack import Attack
from privbench.component import find, names
from privbench.errors import BadSetting
from privbench.threat import ThreatModel
from privbench.variants import dropouts
from privbench.victims.load import Victim

OF_STEPS = ("local_rate", "momentum")
"""Settings of the threat model that only several local steps heed."""


def unheeded(attack: Attack, name: str, threat: ThreatModel, victim: Victim) -> str | None:
    """Say which setting neither the attack nor the victim heeds; None where all count."""
    if threat.server == "malicious" and not attack.malicious:
        able = [one for one in names(Attack.shelf) if find(Attack, one).malicious]
        return (
            f"Attack '{name}' sends the client no weights of its own, so a malicious server is "
            f"nothing to it. Leave threat.server out, or choose {' or '.join(able)}."
        )
    drops = bool(dropouts(victim.model.vit))
    if threat.training and not drops:
        return (
            "In training mode a network drops activations, and this model drops none. Add `--set "
            "model.dropout=0.1`, or leave threat.training out."
        )
    if drops and not threat.training:
        return (
            "Dropout acts only where the client's network is in training mode. Add `--set "
            "threat.training=true`, or leave model.dropout out."
        )
    return None


def refuse_steps(threat: ThreatModel, given: Collection[str], images: int) -> None:
    """Refuse a client whose steps, as they were given, cannot be; raises BadSetting."""
    _refuse_epochs(threat)
    heeded = () if threat.wire == "gradient" else ("local_rate",)
    idle = [k for k in OF_STEPS if k in given and k not in heeded]
    if threat.steps == 1 and idle:
        raise BadSetting(
            f"threat: one local step shares the gradient itself, whatever {' and '.join(idle)} "
            "say. Add `--set threat.local_steps=5`, or leave them out."
        )
    if threat.optimizer == "adamw" and threat.wire == "gradient":
        raise BadSetting(
            "threat: AdamW changes weights, and this client sends a gradient. Add `--set "
            "threat.wire=weights` or `--set threat.wire=difference`, or leave threat.optimizer out."
        )
    if threat.optimizer == "adamw" and threat.momentum:
        raise BadSetting(
            "threat: momentum is SGD's; AdamW has its own. Leave threat.momentum or "
            "threat.optimizer out."
        )
    if threat.warmup and threat.optimizer != "adamw":
        raise BadSetting(
            "threat: warmup is the state of AdamW. Add `--set threat.optimizer=adamw`, or leave "
            "threat.warmup out."
        )
    held = threat.held * threat.clients
    if images % held:
        several = f"{threat.clients} clients with {threat.held} pictures each take"
        one = f"a client with {threat.held} pictures takes"
        raise BadSetting(
            f"threat: {several if threat.clients > 1 else one} {held}, and {images} pictures are "
            f"no multiple of that. Take `--images {held}`."
        )


def _refuse_epochs(threat: ThreatModel) -> None:
    size, held = threat.batch_size, threat.pictures
    if held and (held % size or held == size):
        raise BadSetting(
            f"threat: a client that holds {held} pictures takes them in more than one batch, and "
            f"in whole ones of {size}. Take `--set threat.pictures={max(2, held // size) * size}`."
        )
    if held and threat.local_steps > 1:
        raise BadSetting(
            "threat: a client with more pictures than a batch takes as many steps as its epochs "
            "have batches. Say threat.epochs, and leave threat.local_steps out."
        )
    if threat.epochs > 1 and not held:
        raise BadSetting(
            "threat: epochs go over more pictures than a batch. Add `--set threat.pictures="
            f"{2 * size}`, or say threat.local_steps in place of threat.epochs."
        )


def refuse_alone(threat: ThreatModel, held: int, name: str) -> None:
    """Refuse a warm optimizer where a data set has no pictures but a case's; raises BadSetting."""
    if threat.warmup and held <= threat.held * threat.clients:
        raise BadSetting(
            f"threat: warmup takes steps on other pictures than a case's, and {name} has "
            f"{held} in all. Take another --dataset, or leave threat.warmup out."
        )
