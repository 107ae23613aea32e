"""What rounding tells to whoever knows the gradient: its places, its levels and its walls."""

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from privbench.component import make
from privbench.defense import Defense
from privbench.defenses.quantize import AT_LEVEL
from privbench.defenses.round import WALL
from privbench.threat import Update

FEW = 1e-9
"""Unknowns to an entry, so few that all else is known of each."""


def quantize(**settings):
    return make(Defense, "quantize", settings)


@pytest.mark.parametrize(
    ("settings", "gradient", "expected"),
    [
        ({"bits": 2}, [1.0, 0.5, -0.1, 0.8], [0.0, 0.5, 0.3, 0.4]),
        ({"bits": 3}, [0.3, -0.15, 0.25, 0.05], [0.0, 0.05, 0.1 * 0.5, 0.05]),
        ({"bits": 1}, [1.0, 0.0, -0.6, 0.8], [0.0, 1.0, 0.8, 0.6]),
    ],
)
def test_an_entry_is_off_by_what_its_place_between_two_levels_says(settings, gradient, expected):
    """Steps of 1, 0.1 and 2: the root of f (1 - f) of them, by hand."""
    ends = {"a": torch.tensor([max(gradient), 0.0, 0.0, 0.0])}
    found = quantize(**settings).deviations_at({"a": torch.tensor(gradient)}, ends, FEW)["a"]
    assert found.tolist() == pytest.approx(expected, abs=1e-2 * max(expected))


@pytest.mark.parametrize("settings", [{"bits": 4}, {"bits": 1}, {"bits": 4, "ends": "norm"}])
def test_the_errors_of_many_roundings_are_as_large(settings):
    defense, rng = quantize(**settings), torch.Generator().manual_seed(0)
    plain = torch.randn(20, generator=rng)
    many = [defense.protect(Update({"a": plain}), rng).tensors["a"] for _ in range(4000)]
    told = defense.deviations_at({"a": plain}, {"a": many[0]}, FEW)["a"]
    found = (torch.stack(many).double() - plain).square().mean(0)
    clear = told > 0.2 * told.max()
    assert clear.sum() > 10
    assert torch.allclose(found[clear], told[clear].square(), rtol=0.15)


def test_an_attack_is_told_nothing_of_places():
    shared = {"a": torch.tensor([1.0, 0.0, -1.0, 0.0])}
    assert len(quantize(bits=2).deviations(shared)["a"].unique()) == 1
    assert torch.equal(
        quantize(bits=2).deviations_at({}, shared, 0.1)["a"],
        quantize(bits=2).deviations(shared)["a"],
    )


def test_on_a_level_a_rounding_tells_what_its_smoothed_chances_do():
    """Fisher information in the middle of an entry's law of spread h, a level there; steps of 1."""
    h = 0.01

    def smoothed(kernel, at):
        span = (at - 8 * h, at + 8 * h)
        return quad(lambda z: kernel(z) * norm.pdf(z, at, h), *span, points=[0.0], epsabs=1e-12)[0]

    told = 0.0
    for level in (-1.0, 0.0, 1.0):
        chances = [
            smoothed(lambda z, level=level: max(0.0, 1 - abs(z - level)), at)
            for at in (-1e-4, 1e-4)
        ]
        told += ((chances[1] - chances[0]) / 2e-4) ** 2 / (sum(chances) / 2)
    assert 1 / told == pytest.approx(AT_LEVEL * h, rel=0.02)


def test_walls_tell_what_a_threshold_does():
    """Cells of width 1 and entries known to h, wherever they lie."""
    h = 0.02

    def told(at):
        """Fisher information at a distance from the one wall that is near."""
        return (norm.pdf(at / h) / h) ** 2 / (norm.cdf(at / h) * norm.sf(at / h))

    assert 1 / quad(told, -0.5, 0.5, points=[0.0], limit=200)[0] == pytest.approx(
        WALL * h, rel=1e-3
    )


def test_many_entries_make_walls_tell_more_than_their_cells():
    shared = {"a": torch.linspace(1, 2, 9)}
    for name, settings in (("round", {}), ("round", {"format": "fp16"})):
        defense = make(Defense, name, settings)
        plain = defense.deviations(shared)["a"]
        assert torch.equal(defense.deviations_at(shared, shared, 1.0)["a"], plain)
        found = defense.deviations_at(shared, shared, 0.01)["a"]
        cells, h = plain * 12**0.5, 0.1 * found  # h^2 = share times the variance
        assert torch.allclose(found.square(), WALL * h * cells)


def test_how_well_entries_are_known_and_what_levels_tell_agree():
    rng = torch.Generator().manual_seed(0)
    plain = {"a": torch.randn(20_000, generator=rng)}
    found = quantize(bits=8).deviations_at(plain, plain, 0.01)["a"]
    step = float(plain["a"].abs().max()) / 127
    h = (0.01 / found.square().reciprocal().mean()).sqrt()
    assert float(found.square().min()) == pytest.approx(AT_LEVEL * float(h) * step, rel=1e-3)
