"""Bounds for any network: against sampled mechanisms, hand-worked cases and numerical searches."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from privbench.bounds.formal import informed, named, unaided


@pytest.mark.parametrize("noise", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("prior", [0.1, 0.5])
def test_no_event_is_likelier_than_the_likelihood_ratio_allows(noise, prior):
    """Sampled: of all events of that chance without the picture, the one of the highest ratio."""
    rng = np.random.default_rng(0)
    without = rng.normal(size=1_000_000)
    ratio_above = np.quantile(without, 1 - prior)  # the ratio grows with the value
    assert named(noise, prior) == pytest.approx(
        float((rng.normal(size=1_000_000) + 1 / noise > ratio_above).mean()), abs=2e-3
    )
    other = np.abs(without) > np.quantile(np.abs(without), 1 - prior)  # an event like any other
    shifted = np.abs(without + 1 / noise) > np.quantile(np.abs(without), 1 - prior)
    assert other.mean() == pytest.approx(prior, abs=1e-3)
    assert shifted.mean() < named(noise, prior)


def test_the_best_guess_among_gradients_that_differ_stays_below_and_comes_near():
    """Ten orthogonal gradients of the norm itself; the server knows all of them."""
    rng = np.random.default_rng(1)
    for noise in (0.2, 0.5, 2.0):
        shared = noise * rng.normal(size=(200_000, 10))
        shared[:, 0] += 1
        found = float((shared.argmax(1) == 0).mean())
        assert 0.1 < found <= named(noise) + 0.003
        assert found > 0.5 * named(noise)


def test_two_pictures_by_hand():
    """At even odds and noise 1: the chance that a Gaussian stays below 1; without noise, all."""
    assert named(1.0, 0.5) == pytest.approx(0.841345, abs=1e-6)
    assert named(1e9, 0.1) == pytest.approx(0.1)
    assert named(1e-3) == 1.0


def test_a_layer_whose_gradient_is_its_input_gives_the_picture_with_that_error():
    """Clipped, noised, scaled back by the known norm and put into pixels again, as a server may."""
    rng = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 8, 8, generator=rng)
    mean = torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)
    std = torch.tensor([0.2, 0.3, 0.25]).view(1, 3, 1, 1)
    fed, clip, noise = (image - mean) / std, 0.7, 0.05
    sent = clip * fed / fed.norm()
    noisy = sent + noise * clip * torch.randn(2000, *fed.shape[1:], generator=rng)
    read = noisy * fed.norm() / clip * std + mean
    error = float((read - image).square().mean())
    assert unaided(noise, image, mean, std) == pytest.approx(error, rel=0.01)
    assert float((read.mean(0) - image[0]).abs().max()) < 0.1  # without bias


@pytest.mark.parametrize("noise", [0.1, 1.0, 3.0])
def test_one_number_sent_in_one_entry_reaches_its_bound(noise):
    """A Gaussian number through a Gaussian channel: its best estimate is off by z^2 / (1 + z^2)."""
    found = informed(noise, 1, torch.tensor([2.0]))
    assert found == pytest.approx(2 * noise**2 / (1 + noise**2))


@pytest.mark.parametrize("noise", [0.3, 0.7, 2.0])
def test_errors_are_split_as_a_search_splits_them(noise):
    """Least sum of errors, each at most its variance, at the nats that the channel carries."""
    variances, entries = np.array([4.0, 1.0, 0.5, 0.01]), 6
    rate = 3 * math.log(1 + 1 / (6 * noise**2))

    def error(shares):
        split = np.exp(shares) / np.exp(shares).sum() * rate
        return float((variances * np.exp(-2 * split)).mean())

    found = min(minimize(error, s).fun for s in np.random.default_rng(0).normal(size=(5, 4)))
    assert informed(noise, entries, torch.tensor(variances)) == pytest.approx(found, rel=1e-4)


def test_a_mechanism_never_beats_the_bound_for_any_network():
    """Linear encodings of a Gaussian, of bounded power on average, and their best estimates."""
    variances = torch.tensor([3.0, 1.0, 0.2], dtype=torch.float64)
    rng = torch.Generator().manual_seed(0)
    for noise in (0.2, 1.0):
        least = informed(noise, 5, variances)
        for _ in range(50):
            mixing = torch.randn(5, 3, generator=rng, dtype=torch.float64)
            power = float((mixing.square() @ variances).sum())
            precision = mixing.T @ mixing / power / noise**2 + torch.diag(1 / variances)
            assert float(torch.linalg.inv(precision).trace()) / 3 >= least
