"""Noise by the rows of the Jacobian, against small models whose Jacobian is written out."""

import math

import pytest
import torch

from privbench.client_step import ClientStep
from privbench.component import make
from privbench.defense import Again, Defense, Outputs
from privbench.defenses.optimal_noise import OptimalNoise
from privbench.errors import BadSetting
from privbench.seeds import generator

A, B = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 4.0])


def linear(columns=1):
    """A step whose loss is linear in both: the gradient is A x, B x; its rows are 1 and 4 long."""
    images = torch.tensor([0.5, 0.25, 0.75]).view(1, 3, 1, 1)
    weights = {"w": torch.ones(2, columns)}

    def run(pictures, chosen):
        both = torch.stack([A, B]) @ pictures.flatten()
        loss = (chosen.get("w", weights["w"]) * both[:, None]).sum()
        return loss, Outputs(torch.zeros(1, 2), torch.zeros(1, 2))

    gradient = {"w": (torch.stack([A, B]) @ images.flatten())[:, None].expand(2, columns).clone()}
    return gradient, Again(images, weights, run)


def test_two_entries_share_the_budget_as_their_rows_are_long():
    """The gradient is (1/2, 3); variances 1/5 and 4/5 of 0.04 (1/4 + 9), or of 0.04 * 2."""
    gradient, again = linear()
    assert gradient["w"].flatten().tolist() == [0.5, 3.0]
    for relative, budget in ((True, 0.04 * 9.25), (False, 0.08)):
        noise = OptimalNoise(sigma=0.2, relative=relative, probes=1000)
        found = noise.spread(again, gradient, generator("probes"))["w"].flatten().square()
        assert found.tolist() == pytest.approx([budget / 5, 4 * budget / 5], rel=0.1)


def test_the_noise_is_as_large_as_it_says():
    gradient, again = linear(columns=20_000)
    noise = OptimalNoise(sigma=0.3, probes=50)
    spread = noise.spread(again, gradient, generator("one"))["w"]
    outputs = Outputs(torch.zeros(1, 2), torch.zeros(1, 2), again=again)
    found = noise.finish(gradient, outputs, generator("one"))["w"] - gradient["w"]
    for drawn, wanted in zip(found, spread, strict=True):
        assert (wanted == wanted[0]).all()
        assert float(drawn.std()) == pytest.approx(float(wanted[0]), rel=0.02)
        assert abs(float(drawn.mean())) < 4 * float(wanted[0]) / 20_000**0.5


@pytest.mark.parametrize("relative", [True, False])
def test_the_sum_of_the_variances_is_that_of_plain_noise(relative, victim, pictures):
    vit = victim("vit_vanilla", embed_dim=16, num_heads=2).model.vit
    noise = OptimalNoise(sigma=0.05, relative=relative, probes=2)
    kept = {}

    class Kept(OptimalNoise):
        def finish(self, gradients, outputs, rng):
            assert outputs.again is not None
            kept.update(gradients=gradients, spread=noise.spread(outputs.again, gradients, rng))
            return dict(gradients)

    images, labels = pictures(2)
    ClientStep(vit, Kept()).run(images, labels, None, generator("step"))
    plain = make(Defense, "noise", {"sigma": 0.05, "relative": relative})
    total = 0.0
    for tensor in kept["gradients"].values():
        unit = float(tensor.double().square().mean()) if relative else 1.0
        total += plain.settings()["sigma"] ** 2 * unit * tensor.numel()
    spread = torch.cat([one.flatten() for one in kept["spread"].values()])
    assert float(spread.square().sum()) == pytest.approx(total, rel=1e-5)
    assert float(spread.max()) > 2 * float(spread.median())


def information(rows, variances):
    """tr(J^T S^-1 J) where J's rows are orthogonal and so long."""
    return float((rows.square() / variances).sum())


def test_no_other_variances_of_the_same_sum_leave_less_information():
    rows = torch.rand(50, generator=generator("rows")).double() + 0.1
    best = information(rows, rows / rows.sum())
    assert best == pytest.approx(float(rows.sum() ** 2))
    assert best < information(rows, torch.full_like(rows, 1 / 50))
    for seed in range(100):
        other = torch.rand(50, generator=generator(seed)).double() + 0.01
        assert information(rows, other / other.sum()) > best


def test_a_higher_bound_is_no_higher_error_where_noise_is_small():
    """Rows 1 and 4 and a prior of variance 1: the error left is the sum of 1 / (1 + r^2 / s).

    By hand, 1/6 + 1/21 against 1/3 + 1/33 at a sum of variances of 1; at 100, 1/1.05 + 1/1.2
    against 1/1.02 + 1/1.32.
    """
    rows = torch.tensor([1.0, 4.0]).double()

    def left(variances):
        return float((1 / (1 + rows.square() / variances)).sum())

    optimal, even = rows / 5, torch.full_like(rows, 0.5)
    assert left(optimal) == pytest.approx(1 / 6 + 1 / 21)
    assert left(even) == pytest.approx(1 / 3 + 1 / 33)
    assert left(optimal) < left(even)
    assert left(100 * optimal) == pytest.approx(1 / 1.05 + 1 / 1.2)
    assert left(100 * optimal) > left(100 * even)


@pytest.mark.parametrize(("probes", "price"), [(4, 1.178), (8, 1.074), (16, 1.034)])
def test_few_probes_cost_as_much_information_as_it_says(probes, price):
    """Where J is the identity each norm is the root of a mean u of k squared normal numbers.

    E[u^(1/2)] E[u^(-1/2)] is a quotient of gamma functions; with one probe it is infinite.
    """
    k = probes / 2
    exact = math.gamma(k + 0.5) * math.gamma(k - 0.5) / math.gamma(k) ** 2
    assert exact == pytest.approx(price, abs=1e-3)
    images = torch.rand(1, 3, 40, 40, generator=generator("pixels"))
    weights = {"w": torch.ones(images.numel())}
    outputs = Outputs(torch.zeros(1, 2), torch.zeros(1, 2))
    again = Again(images, weights, lambda x, chosen: ((chosen["w"] * x.flatten()).sum(), outputs))
    noise = OptimalNoise(sigma=1.0, relative=False, probes=probes)
    found = noise.spread(again, {"w": images.flatten()}, generator("probes"))["w"].square()
    assert information(torch.ones(1), found) / images.numel() == pytest.approx(price, rel=0.02)


def test_an_update_that_no_picture_changes_stays_as_it_is():
    gradient, again = linear()
    outputs = Outputs(torch.zeros(1, 2), torch.zeros(1, 2))
    still = Again(
        again.images,
        again.weights,
        lambda pictures, chosen: (chosen["w"].sum() + 0 * pictures.sum(), outputs),
    )
    spread = OptimalNoise().spread(still, gradient, generator("still"))
    assert not spread["w"].any()


def test_what_anybody_may_guess_is_near_the_truth(victim, pictures):
    """On a product of a column and a row, whose norms are as its entries, it is the truth."""
    matrix = torch.outer(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 5.0]))
    noise = OptimalNoise(sigma=0.1, relative=False)
    found = noise.deviations({"a": matrix})["a"].square()
    assert torch.allclose(found, 0.01 * 6 * matrix.double() / matrix.sum())
    row = noise.deviations({"a": matrix[None]})["a"].square()
    assert torch.allclose(row[0], found)
    both = OptimalNoise(sigma=0.5).deviations({"a": matrix, "b": torch.ones(3)})
    total = float(matrix.square().sum()) + 3
    spent = sum(float(one.square().sum()) for one in both.values())
    assert spent == pytest.approx(0.25 / 1.25 * total)


@pytest.mark.parametrize(("setting", "value"), [("sigma", -1), ("probes", 1), ("sigma", math.inf)])
def test_a_setting_out_of_range_is_refused(setting, value):
    with pytest.raises(BadSetting, match=f"optimal_noise: '{setting}' cannot be"):
        make(Defense, "optimal_noise", {setting: value})
