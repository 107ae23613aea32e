"""Promises that every attack keeps; a new file on the shelf is held to them unasked."""

import copy
import re

import pytest
import torch

from privbench.attack import Attack, check
from privbench.component import find, make, names
from privbench.errors import NotGranted
from privbench.roles import NAMES
from privbench.seeds import generator
from privbench.threat import Knowledge
from tests.conftest import cheap, demanded, quiet

ATTACKS = names("attacks")
EVERYTHING = frozenset(Knowledge)


def build(name):
    return make(Attack, name, cheap(find(Attack, name).setting_names()))


def subject(victim, model, attack):
    """A small victim that has whatever the attack demands of one."""
    return victim(model, **demanded(find(Attack, attack)))


def answer(name, seen, seed=0):
    return build(name).reconstruct(seen, generator("attack", seed), quiet)


@pytest.mark.parametrize("name", ATTACKS)
def test_defaults_suffice_and_the_docstring_fits_a_line(name):
    kind = find(Attack, name)
    make(Attack, name, {})
    assert len((kind.__doc__ or "").splitlines()[0]) <= 100
    assert kind.needs <= EVERYTHING


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("batch", [1, 2])
def test_the_answer_fills_the_shape_in_range(name, batch, victim, shared):
    seen, _ = shared(subject(victim, "vit_vanilla", name), batch, knows=EVERYTHING)
    images = answer(name, seen).images
    assert images.shape == seen.shape
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("model", ["vit_vanilla", "vit_mjp"])
def test_same_seed_same_bits(name, model, victim, shared):
    seen, _ = shared(subject(victim, model, name))
    one, two = answer(name, seen), answer(name, seen)
    assert torch.equal(one.images, two.images)
    assert one.objective == two.objective


@pytest.mark.parametrize("name", ATTACKS)
def test_model_and_observation_stay_as_they_were(name, victim, shared):
    seen, _ = shared(subject(victim, "vit_mjp", name), knows=EVERYTHING)
    weights = {key: tensor.clone() for key, tensor in seen.model.vit.state_dict().items()}
    update = {key: tensor.clone() for key, tensor in seen.update.tensors.items()}
    answer(name, seen)
    assert all(torch.equal(tensor, update[key]) for key, tensor in seen.update.tensors.items())
    assert all(torch.equal(t, weights[key]) for key, t in seen.model.vit.state_dict().items())
    assert all(p.grad is None for p in seen.model.vit.parameters())


@pytest.mark.parametrize("name", ATTACKS)
def test_the_global_generator_is_left_alone(name, victim, shared):
    seen, _ = shared(subject(victim, "vit_vanilla", name))
    state = torch.get_rng_state()
    answer(name, seen)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ATTACKS)
def test_refused_when_a_declared_need_is_withheld(name, victim):
    attack = build(name)
    one = subject(victim, "vit_vanilla", name)
    shared, vit = one.shared(), one.model.vit
    check(attack, name, EVERYTHING, shared, vit)
    for need in attack.needs:
        with pytest.raises(NotGranted, match=need):
            check(attack, name, EVERYTHING - {need}, shared, vit)
    for tensor in (tensor for role in attack.roles for tensor in vit.names_of(role)):
        with pytest.raises(NotGranted, match=tensor):
            check(attack, name, EVERYTHING, shared - {tensor}, vit)


@pytest.mark.parametrize("name", ATTACKS)
def test_refused_where_the_victim_lacks_a_role_that_is_named(name, victim):
    attack, one = build(name), subject(victim, "vit_vanilla", name)
    for role in attack.roles:
        bare = copy.deepcopy(one.model.vit)
        bare.supports = lambda asked, role=role: asked != role
        with pytest.raises(NotGranted, match=re.escape(NAMES[role])):
            check(attack, name, EVERYTHING, one.shared(), bare)


@pytest.mark.parametrize("name", ATTACKS)
def test_progress_ends_at_its_own_total(name, victim, shared):
    seen, _ = shared(subject(victim, "vit_vanilla", name))
    ticks = []
    build(name).reconstruct(seen, generator("attack"), lambda *tick: ticks.append(tick[:2]))
    assert all(0 <= done <= steps for done, steps in ticks)
    done, steps = ticks[-1]
    assert done == steps


@pytest.mark.parametrize("name", [name for name in ATTACKS if find(Attack, name).batches])
def test_matching_lowers_its_objective(name, victim, shared):
    seen, _ = shared(victim("vit_vanilla"))
    heard = []
    attack = make(Attack, name, {"steps": 15})
    found = attack.reconstruct(seen, generator("attack"), lambda *tick: heard.append(tick[2]))
    assert found.objective < heard[0]
    assert found.gradient_calls == len(heard) >= 12


def test_restarts_are_chosen_by_the_objective(victim, shared):
    seen, _ = shared(victim("vit_vanilla"))
    one = make(Attack, "gradinv_published", {"steps": 3}).reconstruct(seen, generator("a"), quiet)
    four = make(Attack, "gradinv_published", {"steps": 3, "restarts": 4})
    best = four.reconstruct(seen, generator("a"), quiet)
    assert best.objective <= one.objective
    assert best.gradient_calls == 4 * one.gradient_calls


@pytest.mark.parametrize("name", ["gradinv", "gradinv_published"])
def test_the_mask_is_used_unless_it_is_to_be_ignored(name, victim, shared):
    seen, _ = shared(victim("vit_mjp"))
    aware, oblivious = (
        make(Attack, name, {"steps": 3, "mask": mask}).reconstruct(seen, generator("a"), quiet)
        for mask in ("inferred", "ignored")
    )
    assert not torch.equal(aware.images, oblivious.images)
