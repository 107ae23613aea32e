"""The posterior without the way back: the likelihood's formula, its slope, and what it is for."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from privbench.attack import Attack
from privbench.attacks._map.descent import descend
from privbench.attacks._map.kept import Kept
from privbench.attacks._map.order import arranged
from privbench.attacks._map.posterior import Posterior
from privbench.attacks._map.spans import Layer, Spans
from privbench.component import make
from privbench.patches import cut, join
from privbench.seeds import generator
from privbench.threat import Draw
from tests.attacks.test_map import observed
from tests.conftest import psnr, quiet


def layer(told: bool = False) -> tuple[Layer, torch.Tensor]:
    """Return gradients of a layer of five tokens and six inputs, and these inputs."""
    rng = generator("layer")
    inputs = torch.randn(5, 6, generator=rng, dtype=torch.float64)
    sizes = torch.tensor([3.0, 0.1, 1.0, 2.0, 0.5], dtype=torch.float64)
    slopes = sizes[:, None] * torch.randn(5, 4000, generator=rng, dtype=torch.float64)
    known = torch.randn(5, 4000, generator=rng, dtype=torch.float64) if told else None
    rows = slopes.T @ inputs + torch.randn(4000, 6, generator=rng, dtype=torch.float64)
    if known is not None:
        rows += known.T @ inputs
    return Layer("x", rows, 1.0, None, sizes, known), inputs


@pytest.mark.parametrize("told", [False, True])
def test_the_cost_is_the_likelihood_of_rows_with_that_covariance(told):
    one, inputs = layer(told)
    assert one.sizes is not None
    whole = torch.eye(6).double() + (one.sizes.square()[:, None] * inputs).T @ inputs
    means = torch.zeros_like(one.rows) if one.told is None else one.told.T @ inputs
    expected = -MultivariateNormal(means, whole).log_prob(one.rows).sum()
    constant = one.rows.numel() * math.log(2 * math.pi) / 2
    assert float(one.cost(inputs) + constant) == pytest.approx(float(expected), rel=1e-9)


def test_sizes_are_those_that_made_the_rows():
    one, inputs = layer()
    made, one.sizes = one.sizes, None
    for _ in range(30):
        one.fit(inputs)
    assert made is not None
    assert one.sizes is not None
    assert one.sizes.tolist() == pytest.approx(made.tolist(), rel=0.1, abs=0.1)


def test_told_sizes_stay():
    one, inputs = layer(told=True)
    one.fixed = torch.tensor([True, True, True, False, False])
    assert one.sizes is not None
    before = one.sizes.clone()
    one.sizes = torch.where(one.fixed, before, 0.0)
    for _ in range(30):
        one.fit(inputs)
    assert torch.equal(one.sizes[:3], before[:3])
    assert one.sizes[3:].tolist() == pytest.approx(before[3:].tolist(), rel=0.1)


@pytest.mark.parametrize("model", ["vit_vanilla", "vit_mjp", "vit_nope"])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("blocks", [0, 1, None])
def test_the_slope_is_that_of_the_cost(model, batch, blocks):
    seen, secret = observed(("noise", {"sigma": 0.1}), model=model, batch=batch)
    spans = Spans(Posterior(seen, secret.draw))
    spans.use(blocks)
    the_slope_is_that_of_the_cost(spans, seen.shape)


def the_slope_is_that_of_the_cost(spans, shape):
    """Compare the slope along a random direction with a difference of two costs."""
    rng = generator("slope")
    images = torch.rand(shape, generator=rng)
    spans.fit(images)
    at, along = images.flatten().double(), torch.randn(images.numel(), generator=rng).double()
    _, slope, _ = spans.value(at)
    costs = [spans.value(at + sign * 1e-3 * along)[0] for sign in (1, -1)]
    assert (costs[0] - costs[1]) / 2e-3 == pytest.approx(float(slope @ along), rel=2e-2)


def test_newtons_step_solves_the_stem_where_slopes_are_told():
    """With slopes free of errors its equations are linear: one step of length one is the end."""
    seen, _ = observed(("noise", {"sigma": 0.1}))
    spans = Spans(Posterior(seen, None))
    spans.use(0)
    for one in spans.used:
        assert isinstance(one, Layer)
        assert one.sizes is not None
        one.sizes = torch.zeros_like(one.sizes)
    at = seen.model.vit.mean.expand(seen.shape).flatten().double()
    coordinates = spans.coordinates(at.float().view(seen.shape))
    first = spans.value(at)[1]
    last = spans.value(at - coordinates @ (coordinates.T @ first))[1]
    assert float((coordinates.T @ last).norm()) < 1e-3 * float((coordinates.T @ first).norm())


def test_rows_of_patches_without_a_gradient_are_left_open():
    seen, secret = observed(("noise", {"sigma": 0.1}), model="vit_mjp")
    stem = Spans(Posterior(seen, secret.draw)).layers[0]
    assert isinstance(secret.draw, Draw)
    assert isinstance(stem, Layer)
    assert stem.fixed is not None
    assert stem.told is not None
    assert torch.equal(stem.fixed, ~secret.draw.mask[0])
    assert not stem.told[secret.draw.mask[0]].any()


def test_errors_are_at_least_a_share_of_each_tensor():
    seen, _ = observed(("noise", {"sigma": 0.01}))
    posterior = Posterior(seen, None)
    own, more, less = (Spans(posterior, least).layers for least in (0.0, 0.1, 0.001))
    for one, other, same in zip(own, more, less, strict=True):
        assert isinstance(one, Layer)
        assert isinstance(other, Layer)
        assert isinstance(same, Layer)
        assert one.weight / other.weight == pytest.approx(10, rel=0.01)
        assert same.weight == one.weight


def test_layers_with_entries_that_the_defense_made_count_by_the_others():
    seen, _ = observed(("prune", {"ratio": 0.5}), ("noise", {"sigma": 0.01}))
    layers = Spans(Posterior(seen, None)).layers
    assert layers
    for one in layers:
        assert isinstance(one, Kept)
        assert one.cut is not None
        weights, missing = one.rows[:, :-1], one.cut.missing[:, :-1]
        assert float(weights[~missing].abs().min()) >= one.cut.within.low
        assert not weights[missing].any()
        assert (one.known[:, :-1] > 0).all()


def test_it_comes_nearer_from_afar():
    """Where the way down the whole posterior ends elsewhere."""
    seen, secret = observed(("noise", {"sigma": 0.03}), embed_dim=128)
    first = make(Attack, "pe_ls", {}).reconstruct(seen, generator("a"), quiet).images
    posterior = Posterior(seen, None)
    spans, at = Spans(posterior), first.flatten()
    for blocks in (0, 1):
        spans.use(blocks)
        spans.fit(at.view(seen.shape))
        at, _, _ = descend(spans, at, posterior.half, 50, quiet)
    assert psnr(at.view(seen.shape), secret.images) > psnr(first, secret.images) + 4


def test_patches_without_places_are_put_where_the_prior_wants_them():
    """Their order is in no gradient, so it is the smoother picture's."""
    seen, _ = observed(("noise", {"sigma": 0.01}), model="vit_nope", patch_size=2)
    posterior, line = Posterior(seen, None), torch.arange(8) / 8
    ramp = torch.stack([line.expand(8, 8), line.expand(8, 8).T, 0.5 * (line + line[:, None])])
    mixed = join(cut(ramp[None], 2)[:, torch.arange(16).roll(5)], 2)
    slopes = torch.rand(1, seen.model.vit.classes, generator=generator("s"))
    before = posterior.join(mixed, slopes)
    after = arranged(seen, posterior, before, generator("order"))
    assert torch.equal(posterior.split(after)[0], ramp[None])
    assert torch.equal(posterior.split(after)[1], posterior.split(before)[1])


def test_patches_with_places_stay():
    seen, secret = observed(("noise", {"sigma": 0.01}))
    posterior = Posterior(seen, None)
    at = posterior.join(secret.images.flip(3), torch.ones(1, seen.model.vit.classes))
    assert arranged(seen, posterior, at, generator("order")) is at
