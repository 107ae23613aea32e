"""No attack takes for evidence what a defense provably does: factors, and entries that it made."""

from dataclasses import replace

import pytest
import torch

from privbench.attack import Attack, check
from privbench.component import find, make, names
from privbench.defense import Defense
from privbench.errors import NotGranted, UnsupportedModel
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import ThreatModel, Update
from privbench.victims.load import load
from tests.conftest import CPU, cheap, quiet

ATTACKS = names("attacks")
SAME = 1e-4
"""How far pixels may be apart: what float64 leaves, times the condition of the closed forms."""
slow = pytest.mark.slow
MODELS = ["vit_vanilla", *(pytest.param(m, marks=slow) for m in ("vit_mjp", "vit_sincos"))]


def observe(attack, pictures, model, *defenses, batch=1, **protocol):
    """What is seen of a small victim in float64, whose rounding no closed form blows up."""
    kind = find(Attack, attack)
    settings = {"depth": 2, "patch_size": 8, "embed_dim": 64, **kind.demands}
    parts = [make(Defense, name, given) for name, given in defenses] or [make(Defense, "none", {})]
    victim = load(model, settings, tuple(parts), "init", CPU)
    victim.model.vit.double()
    if kind.malicious:
        try:
            tampered = make(Attack, attack, {}).tamper(victim.model, generator("tamper"))
        except UnsupportedModel as refusal:
            pytest.skip(str(refusal))
        victim = replace(victim, model=tampered)
    images, labels = pictures(batch)
    try:
        check(make(Attack, attack, {}), attack, frozenset(), victim.shared(), victim.model.vit)
    except NotGranted as refusal:
        pytest.skip(str(refusal))
    threat = ThreatModel(batch_size=batch, **protocol)
    return share(victim, images.double(), labels, threat, (0,))[0]


def answer(attack, seen):
    settings = cheap(find(Attack, attack).setting_names())
    try:
        return make(Attack, attack, settings).reconstruct(seen, generator("attack"), quiet)
    except NotGranted as refusal:  # of an attack that it runs inside
        pytest.skip(str(refusal))


def scaled(seen, factor):
    """The same observation, each tensor times what the function gives for its number."""

    def of(update):
        every = enumerate(update.tensors.items())
        return Update({n: t * factor(i) for i, (n, t) in every}, update.withheld)

    return replace(seen, update=of(seen.update), later=tuple(map(of, seen.later)))


def apart(one, other):
    return float((one.images - other.images).abs().max())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_factor_of_the_update_changes_no_answer(attack, model, pictures):
    seen = observe(attack, pictures, model)
    plain = answer(attack, seen)
    found = answer(attack, scaled(seen, lambda _: 3.7e-9))
    assert apart(found, plain) < SAME
    # of an exact answer `map` has a cost that is rounding alone
    least = 1e-7 if attack == "map" else 1e-9
    assert found.objective == pytest.approx(plain.objective, rel=0.01, abs=least)


@slow
@pytest.mark.parametrize("model", ["vit_vanilla", "vit_mjp", "vit_sincos"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_factor_that_rounds_nothing_changes_no_bit(attack, model, pictures):
    seen = observe(attack, pictures, model, batch=2)
    plain = answer(attack, seen)
    for factor in (2.0**-30, 2.0**20):
        found = answer(attack, scaled(seen, lambda _, factor=factor: factor))
        assert torch.equal(found.images, plain.images), factor
        assert found.objective == plain.objective, factor


@slow
@pytest.mark.parametrize("model", ["vit_vanilla", "vit_mjp", "vit_sincos"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_clipping_changes_no_answer(attack, model, pictures):
    local = {"local_steps": 2, "local_rate": 1e-6}
    for protocol in ({}, local):
        plain = answer(attack, observe(attack, pictures, model, **protocol))
        for norm in (1e-3, 1e-7):
            seen = observe(attack, pictures, model, ("clip", {"norm": norm}), **protocol)
            assert apart(answer(attack, seen), plain) < SAME, (norm, protocol)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_factor_of_each_tensor_changes_no_answer_where_the_defense_gives_one(
    attack, model, pictures
):
    seen = observe(attack, pictures, model, ("clip", {"norm": 1e-4, "of": "tensor"}))
    plain = answer(attack, seen)
    draw = (10 ** (4 * torch.rand(200, generator=generator("factors")) - 2)).tolist()
    assert apart(answer(attack, scaled(seen, draw.__getitem__)), plain) < SAME


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_entries_that_the_defense_made_are_no_evidence(attack, model, pictures):
    """Anything below the smallest kept entry says as much as the zero that was put there."""
    seen = observe(attack, pictures, model, ("prune", {"ratio": 0.3}))
    kept, rng, filled = seen.model.defense.measured(seen.update.tensors), generator("fill"), {}
    for name, tensor in seen.update.tensors.items():
        made = ~kept.get(name, torch.ones_like(tensor, dtype=torch.bool))
        least = tensor[~made].abs().min()
        noise = 2 * torch.rand(tensor.shape, generator=rng, dtype=tensor.dtype) - 1
        filled[name] = torch.where(made, 0.9 * least * noise, tensor)
    other = replace(seen, update=replace(seen.update, tensors=filled))
    assert apart(answer(attack, other), answer(attack, seen)) < 1e-6
