"""Entries left out for their size: moments against a fine grid, and what tells their bounds."""

import pytest
import torch

from privbench.attacks._map.cut import Bounds, bounds, moments, sites
from privbench.seeds import generator


@pytest.mark.parametrize("mean", [-3.0, -0.4, 0.0, 1.1, 8.0])
@pytest.mark.parametrize("root", [0.05, 1.0, 4.0])
@pytest.mark.parametrize("high", [2.0, 1e3])
def test_moments_are_those_of_a_fine_grid(mean, root, high):
    line = torch.linspace(-60, 60, 400_001, dtype=torch.float64)
    inside = (line.abs() < 1) | (line.abs() > high)
    log = torch.where(inside, -((line - mean) / root).square() / 2, -torch.inf)
    weights = log.softmax(0)
    expected = float(weights @ line)
    spread = float(weights @ (line - expected).square())
    there, variance = torch.tensor([[mean], [root**2]]).double()
    found = moments(there, variance, Bounds(1.0, high))
    assert float(found[0]) == pytest.approx(expected, abs=5e-4)
    assert float(found[1]) == pytest.approx(spread, rel=1e-2, abs=5e-4)


def test_a_site_gives_an_entry_the_moments_within_its_bounds():
    mean, variance = torch.tensor([0.3, -0.7, 0.0]).double(), torch.tensor([1.0, 0.5, 9.0]).double()
    within, values, known = Bounds(0.5, 50.0), torch.zeros(3).double(), torch.zeros(3).double()
    expected, at, whole = moments(mean, variance, within), mean, variance
    for _ in range(40):
        whole = 1 / (1 / variance + known)
        at = whole * (mean / variance + known * values)
        values, known = sites(at, whole, values, known, within)
    assert torch.allclose(at, expected[0], atol=1e-6)
    assert torch.allclose(whole, expected[1], atol=1e-6)


def test_bounds_are_told_from_a_choice_by_chance():
    rng = generator("cut")
    tensor = torch.randn(128, 48, generator=rng)
    assert bounds(tensor, torch.rand(tensor.shape, generator=rng) < 0.5) is None
    kept = (tensor.abs() > 0.5) & (tensor.abs() < 2)
    found = bounds(tensor, kept)
    assert found is not None
    assert found.low == pytest.approx(0.5, abs=0.01)
    assert found.high == pytest.approx(2, abs=0.01)
    largest = bounds(tensor, tensor.abs() > 0.5)
    assert largest is not None
    assert largest.high == float("inf")
