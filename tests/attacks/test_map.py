"""The most probable picture: right slopes, known errors, and as good as the ceiling allows."""

import pytest
import torch

from privbench.attack import Attack
from privbench.attacks._map.descent import descend, newton_coordinates
from privbench.attacks._map.posterior import Posterior
from privbench.bounds.ceiling import jacobian, precision
from privbench.component import make
from privbench.defense import Defense
from privbench.errors import UnsupportedModel
from privbench.prior import covariance
from privbench.records.bound import decibels
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import Draw, ThreatModel
from privbench.victims.load import load
from privbench.vit import ViT
from tests.bounds.test_bound import expected_error
from tests.conftest import CPU, psnr, quiet

TINY = {"img_size": 8, "depth": 2, "embed_dim": 24, "num_heads": 2}


def observed(*defenses, batch=1, model="vit_vanilla", **settings):
    """An update of a tiny victim; pictures are drawn from the prior itself."""
    parts = tuple(make(Defense, name, given) for name, given in defenses)
    victim = load(model, TINY | settings, parts, "init", CPU)
    vit = victim.model.vit
    half = torch.linalg.cholesky(covariance(vit))
    drawn = half @ torch.randn(len(half), batch, generator=generator("p"), dtype=torch.float64)
    images = (vit.mean + drawn.T.view(batch, *vit.mean.shape[1:2], 8, 8)).clamp(0, 1).float()
    threat = ThreatModel(batch_size=batch)
    return share(victim, images, torch.arange(batch) + 3, threat, (0,))


def attack(**settings):
    return make(Attack, "map", settings)


def run(seen, **settings):
    return attack(**settings).reconstruct(seen, generator("a"), quiet)


def test_it_finds_what_the_closed_form_loses_in_the_noise():
    seen, secret = observed(("noise", {"sigma": 0.001}), embed_dim=64)
    closed = make(Attack, "pe_ls", {}).reconstruct(seen, generator("a"), quiet)
    found = run(seen, steps=200, newton=100)
    assert psnr(found.images, secret.images) > psnr(closed.images, secret.images) + 20
    assert found.objective == pytest.approx(1, abs=0.1)
    assert not found.warnings


def test_from_nearby_it_comes_as_near_as_its_ceiling_allows():
    """From where the equations are linear: the bottom is the posterior's, and it is reached."""
    seen, secret = observed(("noise", {"sigma": 0.01}), embed_dim=64)
    here = jacobian(seen, secret.images, secret.labels, None)
    known = precision(seen.model.defense, here.gradient, seen.update.tensors, len(here.at))
    prior = covariance(seen.model.vit)
    mse, unresolved = expected_error(
        here.normal(known), prior, lambda along: here.weighed(known, along)
    )
    assert unresolved == 0
    ceiling = decibels(mse)
    posterior = Posterior(seen, None)
    near = secret.images + 0.005 * torch.randn(seen.shape, generator=generator("near"))
    at = posterior.join(near, seen.update.tensors[ViT.HEAD_BIAS][None])
    matrix = newton_coordinates(posterior, at, 1.0, quiet)
    at, misfit, _ = descend(posterior, at, matrix, 100, quiet)
    assert psnr(near, secret.images) < ceiling - 3
    assert abs(psnr(posterior.split(at)[0], secret.images) - ceiling) < 3
    assert misfit == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("model", ["vit_vanilla", "vit_mjp"])
@pytest.mark.parametrize("batch", [1, 2])
def test_the_slope_is_that_of_the_cost(model, batch):
    seen, secret = observed(("noise", {"sigma": 0.1}), model=model, batch=batch)
    posterior = Posterior(seen, secret.draw)
    rng = generator("slope")
    at = posterior.join(torch.rand(seen.shape, generator=rng), torch.rand(batch, 10, generator=rng))
    along = torch.randn(len(at), generator=rng, dtype=torch.float64)
    _, slope, _ = posterior.value(at.double())
    costs = [posterior.value(at.double() + sign * 1e-3 * along)[0] for sign in (1, -1)]
    assert (costs[0] - costs[1]) / 2e-3 == pytest.approx(float(slope @ along), rel=2e-2)


def test_at_the_truth_noise_is_all_that_is_left():
    seen, secret = observed(("clip", {"norm": 0.1}), ("noise", {"sigma": 0.2}))
    posterior = Posterior(seen, None)
    slopes = seen.model.logits(secret.images).softmax(1).detach()
    slopes[0, secret.labels] -= 1
    assert posterior.value(posterior.join(secret.images, slopes).double())[2] == pytest.approx(
        1, abs=0.05
    )


def test_entries_that_the_defense_made_say_nothing():
    seen, _ = observed(("prune", {"ratio": 0.5}), ("noise", {"sigma": 0.0}))
    posterior = Posterior(seen, None)
    kept = sum(int((tensor != 0).sum()) for tensor in seen.update.tensors.values())
    assert 0 < posterior.entries <= kept


def test_it_begins_with_the_mean_where_its_start_cannot_run():
    seen, secret = observed(("withhold", {}), ("noise", {"sigma": 0.01}))
    found = run(seen, steps=60, newton=0)
    assert found.report["misfit"] < found.report["misfit_first"]
    flat = seen.model.vit.mean.expand(seen.shape)
    assert psnr(found.images, secret.images) > psnr(flat, secret.images)


def test_it_says_when_it_has_not_arrived():
    seen, _ = observed(("noise", {"sigma": 0.001}), ("withhold", {}))
    assert "was not reached" in run(seen, steps=2, newton=0).warnings[0]


def test_pictures_too_large_for_a_matrix_are_refused_in_a_sentence(victim, shared):
    seen, _ = shared(victim("vit_vanilla"), 3)
    with pytest.raises(UnsupportedModel, match="3 of 32 px are too many"):
        run(seen)


@pytest.mark.slow
def test_masked_patches_are_found_as_a_set_and_put_beside_the_shown_ones(pictures):
    """The way through two blocks, less than half as long as usual: 20 seconds on one core."""
    victim = load("vit_mjp", {}, (make(Defense, "noise", {}),), None, CPU)
    images, labels = pictures(1)
    seen, secret = share(victim, images, labels, ThreatModel(), (0, 0))
    closed = make(Attack, "pe_ls", {}).reconstruct(seen, generator("a"), quiet)
    found = run(seen, spans=30, steps=1, newton=0)
    assert psnr(found.images, secret.images) > psnr(closed.images, secret.images) + 2
    assert isinstance(secret.draw, Draw)
    shown = ~secret.draw.mask[0].view(8, 8).repeat_interleave(4, 0).repeat_interleave(4, 1)
    assert psnr(found.images[..., shown], secret.fed[..., shown]) > 28
