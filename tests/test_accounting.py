"""Epsilon by two accountants, and by the definition of the Gaussian mechanism."""

from importlib.util import find_spec
from math import comb, exp, inf, isinf, log, sqrt

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from privbench.accounting import (
    classical_sigma,
    gaussian_delta,
    gaussian_epsilon,
    sampled_epsilon,
)
from privbench.component import make
from privbench.defense import Defense
from privbench.errors import BadSetting
from privbench.stack import Stack

opacus = pytest.mark.skipif(find_spec("opacus") is None, reason="the extra dp is not installed")
accounting = pytest.mark.skipif(
    find_spec("dp_accounting") is None, reason="dp-accounting is not installed"
)


def hockey_stick(epsilon: float, noise: float) -> float:
    """The delta by its definition: an integral over two densities one sensitivity apart."""

    def excess(x: float) -> float:
        return max(0.0, float(norm.pdf(x, 1 / noise) - exp(epsilon) * norm.pdf(x)))

    edge = epsilon * noise + 1 / (2 * noise)
    return quad(excess, edge, edge + 40, epsabs=1e-13)[0]


@pytest.mark.parametrize("noise", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0, 5.0])
def test_the_delta_is_that_of_the_definition(noise, epsilon):
    assert gaussian_delta(epsilon, noise) == pytest.approx(hockey_stick(epsilon, noise), abs=1e-10)


@pytest.mark.parametrize("noise", [0.01, 0.1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("delta", [1e-9, 1e-5, 0.1])
def test_the_epsilon_is_the_least_that_has_the_delta(noise, delta):
    epsilon = gaussian_epsilon(noise, delta)
    if epsilon:
        assert gaussian_delta(epsilon, noise) == pytest.approx(delta, rel=1e-4)
    else:
        assert gaussian_delta(0.0, noise) <= delta
    assert gaussian_epsilon(noise, delta, 4) == pytest.approx(gaussian_epsilon(noise / 2, delta))


def test_the_ends_are_none_and_infinite():
    assert gaussian_epsilon(0.0, 1e-5) == inf
    assert gaussian_epsilon(1e9, 1e-5) == 0
    assert isinf(sampled_epsilon(0.0, 0.1, 10, 1e-5) or 0)


def test_the_textbook_noise_holds_below_one_and_is_generous():
    for epsilon in (0.1, 0.5, 0.9):
        assert 0 < gaussian_epsilon(classical_sigma(epsilon, 1e-5), 1e-5) < epsilon
    # above it is not proved, and far enough above it is wrong
    assert gaussian_epsilon(classical_sigma(40.0, 1e-5), 1e-5) > 60


@opacus
@accounting
@pytest.mark.parametrize(("noise", "rate", "steps"), [(1.0, 0.01, 1000), (0.7, 0.05, 200)])
def test_opacus_is_above_a_tight_accountant_and_not_by_much(noise, rate, steps):
    import dp_accounting
    from dp_accounting.pld import PLDAccountant

    tight = PLDAccountant()
    event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
    tight.compose(event, steps)
    found = sampled_epsilon(noise, rate, steps, 1e-5)
    assert found is not None
    assert tight.get_epsilon(1e-5) <= found <= 1.25 * tight.get_epsilon(1e-5)


@accounting
@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0])
def test_the_exact_epsilon_is_that_of_a_tight_accountant(noise):
    import dp_accounting
    from dp_accounting.pld import PLDAccountant

    tight = PLDAccountant()
    tight.compose(dp_accounting.GaussianDpEvent(noise), 5)
    assert gaussian_epsilon(noise, 1e-5, 5) == pytest.approx(tight.get_epsilon(1e-5), rel=1e-3)


def renyi(noise: float, rate: float, order: int) -> float:
    """Renyi divergence of one sampled step at a whole order (Mironov et al., arXiv:1908.10530)."""
    terms = [
        log(comb(order, k))
        + (order - k) * log(1 - rate)
        + k * log(rate)
        + (k * k - k) / (2 * noise**2)
        for k in range(order + 1)
    ]
    return float(np.logaddexp.reduce(terms)) / (order - 1)


@opacus
def test_opacus_is_no_higher_than_the_sum_by_hand_at_whole_orders():
    noise, rate, steps, delta = 1.0, 0.01, 1000, 1e-5
    by_hand = min(steps * renyi(noise, rate, a) + log(1 / delta) / (a - 1) for a in range(2, 60))
    found = sampled_epsilon(noise, rate, steps, delta)
    assert found is not None
    assert 0.7 * by_hand < found <= by_hand


def test_without_opacus_sampling_has_no_figure(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("privbench.accounting.import_module", missing)
    assert sampled_epsilon(1.0, 0.1, 10, 1e-5) is None
    assert sampled_epsilon(1.0, 1.0, 4, 1e-5) == gaussian_epsilon(1.0, 1e-5, 4)


@pytest.mark.parametrize("delta", [0.0, 1.0, 1.5, -0.1])
def test_a_delta_that_is_no_probability_is_refused(delta):
    with pytest.raises(BadSetting, match="A delta is a probability above 0 and below 1"):
        gaussian_epsilon(1.0, delta)


def test_a_rate_that_is_no_share_is_refused():
    with pytest.raises(BadSetting, match="share above 0 and up to 1, not 2"):
        sampled_epsilon(1.0, 2.0, 10, 1e-5)


def test_dp_sgd_says_what_its_noise_gives_in_one_step():
    defense = make(Defense, "dp_sgd", {"noise_multiplier": 2.0, "norm": 0.3})
    found = defense.privacy(1000, 1e-6)
    assert found is not None
    assert (found.protects, found.noise, found.claimed) == ("example", 2.0, None)
    assert hockey_stick(found.epsilon, 2.0) == pytest.approx(1e-6, rel=1e-3)


def test_a_row_has_the_strongest_guarantee_of_its_parts():
    weak, strong = (make(Defense, "dp_sgd", {"noise_multiplier": z}) for z in (1.0, 3.0))
    other = make(Defense, "noise", {})
    assert Stack(parts=(other, other)).privacy(10, 1e-5) is None
    row = Stack(parts=(other, strong))
    assert row.privacy(10, 1e-5) == strong.privacy(10, 1e-5)
    assert sqrt(2) * gaussian_epsilon(3.0, 1e-5) < gaussian_epsilon(1.0, 1e-5)
    assert weak.privacy(10, 1e-5) != strong.privacy(10, 1e-5)
