"""Defenses that choose entries: random ones, those between two sizes, and Outpost's."""

from typing import Any

import numpy as np
import pytest
import torch

from privbench.component import make
from privbench.defense import Defense
from privbench.defenses._mixture import Mixture, mixture
from privbench.errors import BadSetting
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import ThreatModel, Update
from privbench.victims.load import load
from tests.conftest import CPU

SMALL = {"depth": 1, "embed_dim": 16, "num_heads": 2}


def protect(name, tensor, seed: int = 0, **settings: Any):
    defense = make(Defense, name, settings)
    return defense.protect(Update({"a": tensor}), generator(seed)).tensors["a"]


def some(*shape):
    return torch.randn(shape, generator=generator("some"))


@pytest.mark.parametrize("portion", [0.1, 0.5, 0.9])
def test_random_entries_keeps_its_share_whatever_the_size(portion):
    array = some(40_000)
    kept = protect("random_entries", array, share=portion, mask="fresh")
    chosen = kept != 0
    assert torch.equal(kept[chosen], array[chosen])
    for part in (chosen, chosen[array.abs() > 1], chosen[array.abs() < 0.1]):
        wide = 4.5 * (portion * (1 - portion) / len(part)) ** 0.5
        assert abs(float(part.double().mean()) - portion) < wide


def test_a_fixed_mask_is_the_same_in_every_round_and_a_fresh_one_is_not():
    array, other = some(500), some(500) + 7
    fixed = [protect("random_entries", one, seed) != 0 for one in (array, other) for seed in (0, 1)]
    assert all(torch.equal(one, fixed[0]) for one in fixed)
    assert not torch.equal(fixed[0], protect("random_entries", array, seed=1) == 0)
    mine = protect("random_entries", array, seed=0, mask="fresh") != 0
    yours = protect("random_entries", array, seed=1, mask="fresh") != 0
    assert not torch.equal(mine, yours)
    own = make(Defense, "random_entries", {"seed": 5}).protect(Update({"a": array}), generator())
    assert not torch.equal(own.tensors["a"] != 0, fixed[0])


def test_random_entries_says_what_is_missing_and_how_large_it_may_be():
    array = some(20_000)
    defense = make(Defense, "random_entries", {})
    shared = {"a": protect("random_entries", array)}
    kept, off = defense.measured(shared)["a"], defense.deviations(shared)["a"]
    assert torch.equal(kept, shared["a"] != 0)
    assert not off[kept].any()
    true = float((array - shared["a"])[~kept].square().mean().sqrt())
    assert float(off[~kept].mean()) == pytest.approx(true, rel=0.05)


def test_dual_pruning_of_a_worked_array():
    array = torch.tensor([[5.0, -0.1, 2.0, -4.0, 0.2], [-3.0, 0.3, 1.0, -0.4, 0.5]])
    wanted = [[0, 0, 2.0, 0, 0], [-3.0, 0, 1.0, 0, 0.5]]
    found = protect("dgp", array, largest=0.2, smallest=0.4)
    assert torch.equal(found, torch.tensor(wanted))


@pytest.mark.parametrize(("largest", "smallest"), [(0.05, 0.75), (0.0, 0.9), (0.3, 0.0)])
def test_dual_pruning_keeps_what_lies_between_two_of_numpys_ranks(largest, smallest):
    array = some(13, 31)
    found = protect("dgp", array, largest=largest, smallest=smallest)
    rank = np.abs(array.numpy().ravel()).argsort().argsort()
    n = array.numel()
    between = (rank >= round(smallest * n)) & (rank < n - round(largest * n))
    assert np.array_equal((found != 0).numpy().ravel(), between)


def test_dual_pruning_says_how_far_off_its_zeros_are():
    array, defense = some(4000), make(Defense, "dgp", {})
    shared = {"a": protect("dgp", array)}
    kept, off = defense.measured(shared)["a"], defense.deviations(shared)["a"]
    assert torch.equal(kept, shared["a"] != 0)
    true = float(array[~kept].square().mean().sqrt())
    assert float(off[~kept].mean()) == pytest.approx(true, rel=0.3)
    assert not off[kept].any()
    assert defense.measured({"a": torch.zeros(100)}) == {}


def test_shares_that_leave_nothing_are_refused():
    with pytest.raises(BadSetting, match=r"are all of them. Choose shares with a sum below 1"):
        make(Defense, "dgp", {"largest": 0.5, "smallest": 0.5})


def outpost(pictures, **settings):
    victim = load("vit_vanilla", SMALL, (make(Defense, "outpost", settings),), "init", CPU)
    images, labels = pictures(2)
    seen, _ = share(victim, images, labels, ThreatModel(batch_size=2), (0,))
    plain = seen.model.gradient(images, labels, differentiable=False)
    return seen.update.tensors, plain, victim.model.vit.trained()


def test_outpost_without_noise_is_a_percentile_of_each_tensor(pictures):
    found, plain, _ = outpost(pictures, noise=0.0, ratio=0.8)
    for name, tensor in plain.items():
        sizes = np.sort(np.abs(tensor.numpy().ravel()))
        small = round(0.8 * len(sizes))
        kept = np.abs(tensor.numpy()) >= sizes[min(small, len(sizes) - 1)]
        if len(np.unique(sizes)) == len(sizes) and small < len(sizes):
            assert np.allclose(found[name].numpy(), np.where(kept, tensor.numpy(), 0)), name


def test_outposts_noise_goes_where_the_squares_are_largest_and_by_the_weights_variance(pictures):
    """The authors' public program returns the gradient as it was."""
    found, plain, weights = outpost(pictures, ratio=0.0)
    bound = np.quantile(np.concatenate([t.numpy().ravel() ** 2 for t in plain.values()]), 0.6)
    for name, tensor in plain.items():
        moved = (found[name] - tensor).double()
        loud = tensor.double().square() > bound * (1 + 1e-4)
        quiet = tensor.double().square() < bound * (1 - 1e-4)
        assert not moved[quiet].any()
        if int(loud.sum()) > 300:
            scale = 0.8 * min(1.0, float(weights[name].detach().double().var(correction=0)))
            assert float(moved[loud].std()) == pytest.approx(scale, rel=0.15), name


def laid(scale: float, noise: float, n: int = 20_000):
    """Return Laplace numbers of this scale, and what Outpost shares of them: a fifth is kept.

    Those of the largest 70 % get the noise, so that 50 % are noise alone.
    """
    rng = generator("laid")
    size = -scale * torch.rand(n, generator=rng, dtype=torch.float64).log()
    true = size * (2 * torch.randint(2, (n,), generator=rng) - 1)
    kept, loud = (size >= size.kthvalue(n - round(share * n) + 1).values for share in (0.2, 0.7))
    added = noise * torch.randn(n, generator=rng, dtype=torch.float64)
    shared = torch.where(kept, true, 0.0) + torch.where(loud, added, 0.0)
    return true.float(), shared.float(), kept


@pytest.mark.parametrize("noise", [0.1, 0.4, 1.6])
def test_outpost_finds_the_noises_size_and_the_law_of_what_was_kept(noise):
    _, shared, _ = laid(1.0, noise)
    law = mixture(shared, 0.2)
    assert law.noise == pytest.approx(noise, rel=0.15)
    assert law.scale == pytest.approx(1.0, rel=0.15)
    assert law.edge == pytest.approx(np.log(5), rel=0.15)
    assert law.floor == pytest.approx(-np.log(0.7), rel=0.15)


def test_the_chance_that_an_entry_was_kept_is_a_quadratures():
    law = Mixture(noise=0.5, scale=1.0, share=0.2, seen=0.7)
    entries, wide = (
        torch.tensor([0.1, 1.0, 1.4, 2.5], dtype=torch.float64),
        np.linspace(-40, 40, 400_001),
    )
    prior = np.where(np.abs(wide) > np.log(5), np.exp(-np.abs(wide)) / 2, 0)  # adds up to 0.2

    def bell(x):
        return np.exp(-2 * x**2) / np.sqrt(np.pi / 2)

    own = np.array([np.trapezoid(prior * bell(x - wide), wide) for x in entries.tolist()])
    alone = 0.5 * bell(entries.numpy())
    assert np.allclose(law.kept(entries).numpy(), own / (own + alone), rtol=1e-3)


@pytest.mark.parametrize("noise", [0.1, 0.4, 1.6])
def test_outpost_says_what_is_noise_alone_and_how_far_off_entries_are(noise):
    true, shared, kept = laid(1.0, noise)
    defense, told = make(Defense, "outpost", {}), {"a": shared}
    counted, off = defense.measured(told)["a"], defense.deviations(told)["a"]
    assert not counted[shared == 0].any()
    if noise < 0.5:
        assert float((counted == kept).double().mean()) > (0.99 if noise < 0.2 else 0.9)
    taken = torch.where(counted, shared, 0)
    for part in (shared == 0, counted, (shared != 0) & ~counted):
        if int(part.sum()) > 100:
            wrong = float((taken - true)[part].square().mean().sqrt())
            assert float(off[part].square().mean().sqrt()) == pytest.approx(wrong, rel=0.2)


def test_outpost_says_nothing_where_nothing_can_be_told():
    full, some_zero = torch.ones(10), torch.tensor([0.0, 0.0, 3.0, 0.0, 0.0])
    silent = make(Defense, "outpost", {"noise": 0.0})
    assert silent.measured({"a": some_zero})["a"].tolist() == [False, False, True, False, False]
    off = silent.deviations({"a": some_zero})["a"]
    assert torch.allclose(off, torch.tensor([3, 3, 0, 3, 3], dtype=torch.float64) / 3**0.5)
    for settings, shared in (({}, full), ({"ratio": 0.0}, some_zero)):
        defense = make(Defense, "outpost", settings)
        assert defense.measured({"a": shared}) == defense.deviations({"a": shared}) == {}
    nothing = make(Defense, "outpost", {}).deviations({"a": torch.zeros(5), "b": some_zero[2]})
    assert nothing["a"].tolist() == [0.0] * 5
    assert float(nothing["b"]) == 3.0  # a single number is never kept


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("random_entries", "share", 0),
        ("random_entries", "mask", "some"),
        ("dgp", "largest", 1),
        ("outpost", "noise", -0.1),
        ("outpost", "share", 2),
    ],
)
def test_a_setting_out_of_range_is_refused(name, setting, value):
    with pytest.raises(BadSetting, match=f"{name}: '{setting}' cannot be"):
        make(Defense, name, {setting: value})
