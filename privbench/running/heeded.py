"""A threat model's settings that would change nothing but the label of a row are refused."""

from privbench.attack import Attack
from privbench.component import find, names
from privbench.threat import ThreatModel
from privbench.variants import dropouts
from privbench.victims.load import Victim


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
