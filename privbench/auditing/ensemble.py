"""Attacks one update, cheapest budget first, until a picture is proved."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args, get_type_hints

from privbench.attack import Attack
from privbench.auditing.proof import Proof
from privbench.auditing.settling import on_grid, settled
from privbench.component import find, make
from privbench.observation import Observation
from privbench.seeds import generator
from privbench.threat import Images, Reconstruction

TIER = "tier"
"""Setting of an attack that has budgets; the lowest of them is tried first."""


def budget(attack: str, tier: str | None) -> dict[str, Any]:
    """Return the settings that a tier stands for; none of an attack without budgets."""
    return {} if tier is None or TIER not in find(Attack, attack).setting_names() else {TIER: tier}


def attacked(
    seen: Observation,
    proof: Proof,
    name: str,
    tier: str | None,
    seed: int,
) -> tuple[Reconstruction, bool]:
    """Run the attack, at its lowest budget first; whatever is proved ends it."""
    wished = budget(name, tier)
    kind = find(Attack, name)
    budgets: Sequence[dict[str, Any]] = [wished]
    if TIER in kind.setting_names():
        lowest = get_args(get_type_hints(kind)[TIER])[0]
        full = make(Attack, name, wished).settings()[TIER]
        budgets = [{TIER: lowest}] if full == lowest else [{TIER: lowest}, wished]
    answer = None
    for settings in budgets:
        attack = make(Attack, name, settings)
        answer = attack.reconstruct(seen, generator("attack", seed), lambda *_: None)
        if answer.report.get("certified"):
            return replace(answer, images=on_grid(answer.images)), True
        if (sure := _proved(seen, proof, answer)) is not None:
            return replace(answer, images=sure), True
    assert answer is not None
    return answer, False


def _proved(seen: Observation, proof: Proof, answer: Reconstruction) -> Images | None:
    """Return a candidate that is proved with the rounding of weights in mind, or None."""
    if answer.labels is None or seen.protocol.local_steps > 1:
        return None
    candidates = [answer.images]
    if seen.shape[0] == 1 and (grid := settled(seen.model.vit, seen.update.tensors)) is not None:
        candidates.append(grid)
    for one in candidates:
        if proof.proves(one, answer.labels):
            return on_grid(one)
    return None
