"""Frameworks' own filters against arrays that the packages made, and the epsilon that they give.

The arrays are nvflare 2.9.0's and flwr 1.42.0's. Of FLARE:
  filter.process_dxo(DXO(DataKind.WEIGHT_DIFF, data=ARRAYS), Shareable(), FLContext()).data
with PercentilePrivacy(percentile, gamma) and SVTPrivacy(...); of Flower, of
flwr.supercore.differential_privacy: compute_clip_model_update(AFTER, zeros, 2.0), and the std_dev
that add_localdp_gaussian_noise_to_params(..., 1.5, 0.7, 1e-6) hands to add_gaussian_noise_inplace.
"""

from math import inf
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from privbench.accounting import Privacy, gaussian_epsilon
from privbench.component import make
from privbench.defense import Defense
from privbench.errors import BadSetting
from privbench.seeds import generator
from privbench.threat import Update

A, B = [[0.5, -0.02, 0.001], [-0.3, 0.004, 0.0]], [0.03, -0.007, 0.012, -0.05]
ARRAYS = {"a": torch.tensor(A), "b": torch.tensor(B), "c": torch.tensor(0.2)}


def protect(name, tensors, seed: int = 0, **settings: Any):
    defense = make(Defense, name, settings)
    return defense.protect(Update(tensors), generator(seed)).tensors


def promised(defense: Defense, entries: int, delta: float) -> Privacy:
    found = defense.privacy(entries, delta)
    assert found is not None
    return found


def near(found, wanted):
    return torch.allclose(found, torch.tensor(wanted), atol=1e-7)


@pytest.mark.parametrize(
    ("percentile", "gamma", "a", "b"),
    [
        (10.0, 0.01, [[0.01, -0.01, 0.001], [-0.01, 0.004, 0]], [0.01, -0.007, 0.01, -0.01]),
        (50.0, 0.04, [[0.04, -0.02, 0], [-0.04, 0, 0]], [0.03, 0, 0, -0.04]),
        (0.0, 1.0, A, B),
    ],
)
def test_percentile_is_flares(percentile, gamma, a, b):
    found = protect("percentile", ARRAYS, percentile=percentile, gamma=gamma)
    assert near(found["a"], a)
    assert near(found["b"], b)
    assert near(found["c"], 0.2)


@pytest.mark.parametrize("share", [0.0, 33.3, 50.0, 99.0])
def test_the_threshold_is_numpys_percentile(share):
    array = torch.randn(101, generator=generator("p"))
    cutoff = np.percentile(np.abs(array.double().numpy()), share)
    found = protect("percentile", {"a": array}, percentile=share, gamma=10.0)["a"]
    assert torch.equal(found != 0, array.double().abs() >= cutoff)


def test_percentile_says_which_entries_are_as_they_were_and_how_far_off_the_others():
    defense = make(Defense, "percentile", {"percentile": 50.0, "gamma": 0.04})
    shared = protect("percentile", ARRAYS, percentile=50.0, gamma=0.04)
    kept, off = defense.measured(shared), defense.deviations(shared)
    assert kept["a"].tolist() == [[True, True, False], [True, False, False]]
    assert kept["b"].tolist() == [True, False, False, True]
    unit = 3**-0.5
    assert near(off["b"].float(), [0, 0.02 * unit, 0.02 * unit, 0.04 * unit])
    assert float(off["c"]) == 0
    assert defense.deviations({"a": torch.zeros(3)}) == {}
    assert promised(defense, 10, 1e-5).epsilon == inf


def test_svt_without_noise_is_flares():
    """With budgets of 1e9 and as many entries drawn as are above the threshold, nothing is random.

    SVTPrivacy(fraction=.5, epsilon=1e9, noise_var=1e9, gamma=.04, tau=.015, replace=False)
    """
    loud: dict[str, Any] = {"epsilon": 1e9, "noise_var": 1e9, "gamma": 0.04, "tau": 0.015}
    pair = {name: ARRAYS[name] for name in "ab"}
    found = protect("svt", pair, fraction=0.5, replace=False, **loud)
    assert torch.allclose(found["a"], torch.tensor([[0.04, -0.02, 0], [-0.04, 0, 0]]), atol=1e-6)
    assert torch.allclose(found["b"], torch.tensor([0.03, 0, 0, -0.04]), atol=1e-6)


def test_svt_with_noise_has_flares_statistics():
    """SVTPrivacy(.1, 3e4, 2., 1., .5) on linspace(-2, 2, 20000), numpy.random.seed(0).

    Released: 0.09375 of all, 0.1192 of those above 1.5, 0.0052 of those below 0.25; the noise's
    standard deviation 1.40723.
    """
    array = torch.linspace(-2, 2, 20_000, dtype=torch.float64)
    loud: dict[str, Any] = {
        "fraction": 0.1,
        "epsilon": 3e4,
        "noise_var": 2.0,
        "gamma": 1.0,
        "tau": 0.5,
    }
    found = protect("svt", {"a": array}, **loud)["a"]
    released = found != 0
    share = released.double()
    assert float(share.mean()) == pytest.approx(0.09375, abs=0.002)
    assert float(share[array.abs() > 1.5].mean()) == pytest.approx(0.1192, abs=0.015)
    assert float(share[array.abs() < 0.25].mean()) == pytest.approx(0.0052, abs=0.006)
    noise = (found - array.clamp(-1, 1))[released]
    assert float(noise.std()) == pytest.approx(1.40723, rel=0.08)
    assert kstest(noise.numpy(), "laplace", args=(0, 1.0)).pvalue > 1e-3


def test_svt_counts_what_its_setting_leaves_out():
    """FLARE's own ledger for 20000 entries: 0.1 for the choice and 200 for 2000 releases."""
    found = promised(make(Defense, "svt", {}), 20_000, 1e-5)
    assert found.claimed == 0.1
    choice = 0.00039528158697458226 + 0.09960471841302543 * 10
    assert found.epsilon - choice < 200
    assert found.epsilon > 30
    few = promised(make(Defense, "svt", {"fraction": 1e-9}), 1, 1e-5)
    assert few.epsilon == pytest.approx(0.1 + 0.1)


def test_a_threshold_out_of_svts_reach_is_refused():
    with pytest.raises(BadSetting, match="svt: with tau=1e\\+09 hardly any entry"):
        protect("svt", {"a": torch.ones(100)}, tau=1e9)
    assert protect("svt", {"a": torch.ones(100)}, tau=-1e9)["a"].any()


def test_flower_clips_and_scales_its_noise_as_flower_does():
    after = {"a": torch.tensor([[3.0, 0, -1], [0.5, 2, 0]]), "b": torch.tensor([1.0, -1.5])}
    quiet: dict[str, Any] = {"clipping_norm": 2.0, "sensitivity": 1e-12}
    found = protect("flower_ldp", after, **quiet)
    wanted = [[1.4342743312, 0, -0.4780914337], [0.2390457219, 0.9561828875, 0]]
    assert near(found["a"], wanted)
    assert near(found["b"], [0.4780914337, -0.7171371656])
    given: dict[str, Any] = {"sensitivity": 1.5, "epsilon": 0.7, "delta": 1e-6}
    noise = protect("flower_ldp", {"a": torch.zeros(20_000)}, **given)["a"]
    assert kstest(noise.numpy(), "norm", args=(0, STD_DEV)).pvalue > 1e-3


STD_DEV = 11.354576843251017
"""Of flwr 1.42.0."""


def test_flowers_epsilon_is_worse_than_its_setting():
    found = promised(make(Defense, "flower_ldp", {}), 1000, 1e-5)
    assert found.claimed == 1
    assert found.noise == pytest.approx((2 * np.log(1.25e5)) ** 0.5 / 2)
    assert 1.5 < found.epsilon < 2
    honest = promised(make(Defense, "flower_ldp", {"sensitivity": 2.0}), 1000, 1e-5)
    assert honest.epsilon < 1
    much = promised(make(Defense, "flower_ldp", {"sensitivity": 2.0, "epsilon": 40.0}), 9, 1e-5)
    assert much.epsilon == pytest.approx(gaussian_epsilon(much.noise or 0, 1e-5))
    assert much.epsilon > 60


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("percentile", "percentile", 100),
        ("percentile", "gamma", 0),
        ("svt", "fraction", 0),
        ("svt", "epsilon", -1),
        ("flower_ldp", "delta", 1.5),
        ("flower_ldp", "epsilon", 0),
    ],
)
def test_a_setting_out_of_range_is_refused(name, setting, value):
    with pytest.raises(BadSetting, match=f"{name}: '{setting}' cannot be"):
        make(Defense, name, {setting: value})
