"""Flower's central privacy against arithmetic by hand, and the epsilon that it gives."""

from math import exp, inf
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from privbench.accounting import Privacy, gaussian_epsilon
from privbench.component import make
from privbench.defense import Defense
from privbench.defenses.flower_central import FlowerCentral
from privbench.errors import BadSetting
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import ThreatModel, Update

DELTA = 1e-5


def protect(tensors, seed: int = 0, **settings: Any):
    return FlowerCentral(**settings).protect(Update(tensors), generator(seed)).tensors


def promised(**settings: Any) -> Privacy:
    return FlowerCentral(**settings).privacy(1000, DELTA)


def flowers(norms, norm, rounds, *, flipped, quantile=0.5, rate=0.2):
    """The norm after rounds without noise on the count: each client's bit, mean, exponential."""
    for _ in range(rounds):
        bits = [(one <= norm) if flipped else (one > norm) for one in norms]
        norm *= exp(-rate * (np.mean(bits) - quantile))
    return norm


@pytest.mark.parametrize("counts", ["clipped", "unclipped"])
@pytest.mark.parametrize(("lengths", "clipped"), [([9, 8, 7, 6], 1.0), ([9, 9, 9, 1e-6], 0.75)])
def test_the_norm_is_that_of_rounds_one_by_one(counts, lengths, clipped):
    wanted = flowers(lengths, 0.1, 7, flipped=counts == "unclipped")
    found = FlowerCentral(rounds=7, clipped=clipped, counts=counts)
    assert found.norm == pytest.approx(wanted)
    assert (found.norm < 0.1) is (counts == "clipped")


def test_flowers_bit_runs_away_from_the_quantile_that_the_papers_finds():
    lengths = np.linspace(1, 3, 101)
    assert flowers(lengths, 1.5, 300, flipped=True) == pytest.approx(2, rel=0.02)
    assert flowers(lengths, 1.9, 300, flipped=False) < 1e-9
    assert flowers(lengths, 2.1, 300, flipped=False) > 1e9


def test_clipped_updates_have_the_norm_and_no_noise():
    """(3, 4) at a norm of 0.1 exp(-1/2): three and four fifths of it."""
    norm = 0.1 * exp(-0.5)
    found = protect({"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])}, rounds=5)
    assert float(found["a"]) == pytest.approx(0.6 * norm)
    assert float(found["b"]) == pytest.approx(0.8 * norm)
    short = {"a": torch.tensor([0.01, -0.02])}
    assert torch.equal(protect(short)["a"], short["a"])
    assert torch.equal(protect({"a": torch.ones(9)}, clips="server")["a"], torch.ones(9))


def test_the_noise_is_scaled_by_the_next_norm():
    """Of 20 clients the count's noise is 1, and the sum's (1 - 1/4)^(-1/2) = 1.1547 norms."""
    defense = FlowerCentral(seen="model")
    assert defense.effective == pytest.approx(1.1547005)
    size = 1.1547005 * 0.1 * exp(-0.1) / 20**0.5
    zeros = {"a": torch.zeros(20_000)}
    noise = protect(zeros, seen="model")["a"]
    assert kstest(noise.numpy(), "norm", args=(0, size)).pvalue > 1e-3
    assert float(defense.deviations(zeros)["a"][0]) == pytest.approx(size)
    fixed = protect(zeros, seen="model", adaptive=False, noise_multiplier=2.0)["a"]
    assert kstest(fixed.numpy(), "norm", args=(0, 0.2 / 20**0.5)).pvalue > 1e-3


def test_the_mean_of_all_clients_has_flowers_noise(victim, pictures):
    """compute_stdv: noise multiplier times norm over the clients."""
    settings: dict[str, Any] = {"adaptive": False, "clipping_norm": 1e-9, "seen": "model"}
    subject = victim("vit_vanilla", embed_dim=16, num_heads=2)
    given = {"noise_multiplier": 1e9, "clients": 4}
    defense = make(Defense, "flower_central", settings | given)
    model = type(subject.model)(subject.model.vit, defense)
    images, labels = pictures(4)
    threat = ThreatModel(clients=4, batch_size=1)
    told = type(subject)(subject.preset, subject.settings, model, "init", "")
    seen, _ = share(told, images, labels, threat, (0,))
    noise = torch.cat([one.flatten() for one in seen.update.tensors.values()])
    assert float(noise.std()) == pytest.approx(1.0 / 4, rel=0.02)


def test_it_gives_what_it_claims_where_the_norm_stays():
    wanted = gaussian_epsilon(1.0, DELTA)
    for settings in ({"adaptive": False}, {"clipped": 0.5}, {"clipped": 0.5, "rounds": 9}):
        found = promised(seen="model", **settings)
        assert found.claimed == pytest.approx(wanted)
        assert found.epsilon == pytest.approx(wanted)
        assert found.noise == pytest.approx(1.0)


def test_a_falling_norm_costs_what_a_rising_one_gains():
    """1 / (1.1547^2 exp(-0.2)) + 1 / 4 instead of 1: a noise multiplier of 0.9253."""
    down = promised(seen="model")
    assert down.noise == pytest.approx((0.75 * exp(0.2) + 0.25) ** -0.5)
    assert down.epsilon > (down.claimed or 0)
    up = promised(seen="model", counts="unclipped")
    assert up.noise == pytest.approx((0.75 * exp(-0.2) + 0.25) ** -0.5)
    assert up.epsilon < (up.claimed or 0)


def test_the_server_is_promised_nothing():
    for clips in ("client", "server"):
        found = promised(clips=clips)
        assert found.epsilon == inf
        assert found.noise is None
    assert promised(seen="model", noise_multiplier=0.0).epsilon == inf


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"noise_multiplier": 2.0}, "a noise_multiplier of 2 is not below 2, which"),
        ({"clients": 4}, "Choose more clients, a larger count_deviation, or adaptive=false"),
        ({"rounds": 10_000}, "10000 rounds at rate 0.2 bring the norm from 0.1 to 0"),
        ({"rounds": 10_000, "counts": "unclipped"}, "from 0.1 to inf. Choose fewer rounds"),
        ({"quantile": 2}, "'quantile' cannot be 2"),
        ({"count_deviation": 0}, "count_deviation"),
        ({"seen": "nothing"}, "'seen' cannot be 'nothing'"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, words):
    with pytest.raises(BadSetting, match=words):
        make(Defense, "flower_central", settings)
    make(Defense, "flower_central", {"clients": 4, "count_deviation": 1.0})
