"""Attacks one update, cheapest way first, until a picture is proved."""

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
    passes: list[tuple[Observation, dict[str, Any]]] = [(seen, wished)]
    quick, bare = wished, _unrounded(seen)
    if TIER in kind.setting_names():
        lowest = get_args(get_type_hints(kind)[TIER])[0]
        if make(Attack, name, wished).settings()[TIER] != lowest:
            quick = {TIER: lowest}
    if quick != wished or bare is not seen:
        passes = [(bare, quick), *passes]
    answer = None
    for view, settings in passes:
        attack = make(Attack, name, settings)
        answer = attack.reconstruct(view, generator("attack", seed), lambda *_: None)
        if answer.report.get("certified"):
            return replace(answer, images=on_grid(answer.images)), True
        if (sure := _proved(seen, proof, answer)) is not None:
            return replace(answer, images=sure), True
    assert answer is not None
    return answer, False


def _unrounded(seen: Observation) -> Observation:
    """Return an SGD client's update as if its float32 weights had not been rounded.

    To weigh such small errors costs minutes, and what they left open is settled after it.
    """
    protocol = seen.protocol
    if protocol.optimizer != "sgd" or protocol.precision != "float32":
        return seen
    return replace(seen, protocol=replace(protocol, wire="gradient"))


def _proved(seen: Observation, proof: Proof, answer: Reconstruction) -> Images | None:
    """Return a candidate that is proved with the rounding of weights in mind, or None."""
    if answer.labels is None:
        return None
    candidates = [answer.images]
    if seen.shape[0] == 1 and (grid := settled(seen.model.vit, seen.update.tensors)) is not None:
        candidates.append(grid)
    for one in candidates:
        if proof.proves(one, answer.labels):
            return on_grid(one)
    return None
