"""One matrix serves all settings that differ by a factor, and no others."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from privbench.bounds.ceiling import jacobian, precision, typical
from privbench.bounds.held import Held
from privbench.component import make
from privbench.defense import Defense
from privbench.jacobian import Jacobian
from privbench.running.client import share
from privbench.stack import Stack
from privbench.threat import ThreatModel
from privbench.victims.load import load
from tests.bounds.test_bound import TINY
from tests.conftest import CPU

VICTIM = load("vit_vanilla", TINY, (), "init", CPU)


def case(*parts: tuple[str, dict[str, Any]], seed: int = 0):
    """Jacobian and precision of a picture under a row of defenses, as a run has them."""
    row = Stack(parts=tuple(make(Defense, name, settings) for name, settings in parts))
    victim = replace(VICTIM, model=replace(VICTIM.model, defense=row))
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    seen, secret = share(victim, images, torch.tensor([3]), ThreatModel(), (0,))
    here = jacobian(seen, secret.images, secret.labels, secret.draw)
    shared = typical(row, here.gradient, seen.update.tensors)
    return here, precision(row, here.gradient, shared, len(here.at))


@pytest.fixture
def passes(monkeypatch):
    """Grows by one with every matrix that is computed."""
    done: list[int] = []
    normal = Jacobian.normal

    def counted(*given: Any) -> Any:
        done.append(1)
        return normal(*given)

    monkeypatch.setattr(Jacobian, "normal", counted)
    return done


@pytest.mark.parametrize(
    ("name", "first", "later"),
    [
        ("noise", {"sigma": 0.01}, {"sigma": 1e-3}),
        ("noise", {"sigma": 0.01}, {"sigma": 10.0}),
        ("dp_sgd", {"norm": 0.05}, {"norm": 0.05, "noise_multiplier": 0.1}),
        ("dp_sgd", {"norm": 0.05}, {"norm": 0.02, "noise_multiplier": 3.0}),
        ("dp_sgd", {"norm": 1e3}, {"norm": 1e4}),
    ],
)
def test_noise_of_another_size_has_the_matrix_that_it_would_have_afresh(name, first, later, passes):
    held = Held()
    held.information(*case((name, first)))
    given = case((name, later))
    found = held.information(*given)
    assert len(passes) == 1
    afresh = given[0].normal(given[1])
    assert (found - afresh).abs().max() < 1e-5 * afresh.abs().max()


def test_a_gradient_that_is_clipped_has_a_matrix_of_its_own(passes):
    held = Held()
    for norm in (1e3, 0.05):
        held.information(*case(("dp_sgd", {"norm": norm})))
    assert len(passes) == 2


@pytest.mark.parametrize(
    ("parts", "seed"),
    [
        ((("noise", {"sigma": 0.01}),), 1),
        ((("noise", {"sigma": 0.01, "relative": False}),), 0),
        ((("noise", {}), ("prune", {})), 0),
        ((("noise", {}), ("withhold", {})), 0),
        ((("noise", {}), ("label_smoothing", {})), 0),
    ],
)
def test_anything_else_is_computed_afresh(parts, seed, passes):
    held = Held()
    held.information(*case(("noise", {"sigma": 0.01})))
    found = held.information(*case(*parts, seed=seed))
    assert len(passes) == 2
    here, known = case(*parts, seed=seed)
    assert torch.equal(found, here.normal(known))


def test_the_size_of_errors_is_that_of_all_draws_not_of_one():
    """Noise as large as the gradient, on tensors of a few entries: the share of each is known."""
    here, known = case(("noise", {"sigma": 1.0}))
    for name, tensor in known.items():
        assert float(tensor.flatten()[0]) == pytest.approx(
            1 / float(here.gradient[name].double().square().mean()), rel=1e-5
        )


@pytest.mark.parametrize("name", ["quantize", "round"])
def test_sizes_stay_where_errors_are_read_off_entries(name):
    defense, rng = make(Defense, name, {}), torch.Generator().manual_seed(0)
    shared = {"a": torch.randn(50, generator=rng)}
    assert torch.equal(typical(defense, {"a": 2 * shared["a"]}, shared)["a"], shared["a"])
