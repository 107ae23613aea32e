"""Features are read off the head exactly, and decoded as the best linear map would do it."""

from dataclasses import replace

import pytest
import torch

from privbench.attack import Attack
from privbench.attacks._decoder.features import Features, features
from privbench.attacks._decoder.pictures import KINDS, fields, invented
from privbench.attacks.decoder import Moments, decoded
from privbench.component import make
from privbench.defense import Defense
from privbench.errors import BadUpdate, NotGranted
from privbench.prior import covariance
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import ThreatModel, Update
from privbench.victims.load import load
from privbench.vit import ViT
from tests.conftest import CPU, psnr, quiet

SMALL = {"depth": 1, "embed_dim": 32, "num_heads": 2, "patch_size": 8}


def observed(pictures, *defenses, rows=(0,), **settings):
    parts = tuple(make(Defense, name, given) for name, given in defenses)
    victim = load("vit_vanilla", SMALL | settings, parts, "init", CPU)
    images, labels = (t[list(rows)] for t in pictures(max(rows) + 1))
    return share(victim, images, labels, ThreatModel(batch_size=len(rows)), (0,))


def before_head(seen, images):
    with torch.no_grad():
        vit = seen.model.vit
        return vit.features(vit.encode(images, vit.positions)).double()


def without(seen, name):
    tensors = {n: t for n, t in seen.update.tensors.items() if n != name}
    return replace(seen, update=Update(tensors))


def error(found, truth):
    return float((found - truth).norm() / truth.norm())


@pytest.mark.parametrize("name", ["none", "head_only", "bitfit", "lora"])
def test_features_of_one_picture_are_exact(name, pictures):
    seen, secret = observed(pictures, (name, {}))
    truth = before_head(seen, secret.images)
    read = features(seen, secret.labels, torch.ones(32).double())
    assert error(read.values, truth) < 1e-5


@pytest.mark.parametrize("defense", [("none", {}), ("clip", {"norm": 1e-4, "of": "tensor"})])
def test_without_a_scale_the_head_s_own_answer_tells_it_to_a_percent(defense, pictures):
    seen, secret = observed(pictures, defense, ("head_only", {}))
    if defense[0] == "none":
        seen = without(seen, ViT.HEAD_BIAS)
    truth = before_head(seen, secret.images)
    read = features(seen, secret.labels, 3 * truth[0].abs())
    assert error(read.values, truth) < 0.02


def test_noise_is_told_as_variance_and_entries_that_were_not_kept_as_none(pictures):
    seen, secret = observed(pictures, ("head_only", {}), ("noise", {"sigma": 0.01}))
    read = features(seen, secret.labels, torch.ones(32).double())
    off = (read.values - before_head(seen, secret.images)).square() / read.variances
    assert 0.3 < float(off.mean()) < 3
    seen, secret = observed(pictures, ("head_only", {}))
    column = seen.update.tensors[ViT.HEAD].clone()
    column[:, 3] = 0
    seen = replace(seen, update=Update({**seen.update.tensors, ViT.HEAD: column}))

    def kept(tensors):
        return {name: tensor != 0 for name, tensor in tensors.items()}

    object.__setattr__(seen.model.defense, "measured", kept)
    read = features(seen, secret.labels, torch.ones(32).double())
    assert read.variances[0].isinf().nonzero().flatten().tolist() == [3]
    there = torch.arange(32) != 3
    assert error(read.values[:, there], before_head(seen, secret.images)[:, there]) < 1e-5


def test_several_pictures_have_the_rows_of_their_labels(pictures):
    """Each is nearer to its own features than to the other's."""
    seen, secret = observed(pictures, ("head_only", {}), rows=(0, 1))
    truth = before_head(seen, secret.images)
    read = features(seen, secret.labels, torch.ones(32).double())
    apart = torch.cdist(read.values, truth)
    assert apart.argmin(1).tolist() == [0, 1]


def test_what_no_head_tells_is_refused_in_a_sentence(pictures):
    seen, secret = observed(pictures, ("head_only", {}), rows=(0, 1))
    usual = torch.ones(32).double()
    with pytest.raises(NotGranted, match="several pictures"):
        features(without(seen, ViT.HEAD_BIAS), secret.labels, usual)
    with pytest.raises(NotGranted, match="lacks"):
        features(without(seen, ViT.HEAD), secret.labels, usual)
    blank = Update({n: torch.zeros_like(t) for n, t in seen.update.tensors.items()})
    with pytest.raises(BadUpdate, match="zero"):
        features(replace(seen, update=blank), secret.labels, usual)


def test_linear_pictures_are_decoded_as_the_conditional_mean():
    """Of jointly Gaussian numbers the best estimate is E[x] + C_xf (C_ff + S)^-1 (f - E[f])."""
    rng = generator("linear")
    mix = torch.randn(6, 9, generator=rng, dtype=torch.float64)
    images = 0.5 + torch.randn(4000, 6, generator=rng, dtype=torch.float64) @ mix
    drawn = images[:, :4] @ torch.randn(4, 4, generator=rng, dtype=torch.float64)
    moments = Moments()
    for one, other in zip(drawn.split(500), images.split(500), strict=True):
        moments.add(one, other)
    center, gray = drawn.mean(0), images.mean(0)
    both = torch.cat([drawn, images], 1).T.cov(correction=0)
    values, errors = drawn[:1] + 1, torch.tensor([[0.1, 0.2, torch.inf, 0.3]]).double()
    known = [0, 1, 3]
    inner = both[known][:, known] + torch.diag(errors[0, known] + 0.01 * both.diagonal()[known])
    wanted = gray + both[4:][:, known] @ torch.linalg.solve(inner, (values - center)[0, known])
    found = decoded(moments, Features(values, errors), 0.01)
    assert torch.allclose(found[0], wanted, atol=1e-6)


def test_fields_have_the_public_prior_s_covariance():
    vit = load("vit_vanilla", {"img_size": 8}, (), "init", CPU).model.vit
    drawn = fields(vit, 6_000, generator("fields")).flatten(1)
    found, wanted = drawn.T.cov(), covariance(vit).float()
    assert float((found - wanted).abs().max()) < 0.1 * float(wanted.max())


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_invented_pictures_are_in_range_and_have_the_victim_s_colors(number, pictures):
    vit = load("vit_vanilla", SMALL, (), "init", CPU).model.vit
    found = invented(vit, 200, number, generator("kinds"))
    assert found.shape == (200, 3, 32, 32)
    assert found.min() >= 0
    assert found.max() <= 1
    assert torch.allclose(found.mean((0, 2, 3)), vit.mean.flatten(), atol=0.05)
    assert torch.allclose(found.std((0, 2, 3)), vit.std.flatten(), rtol=0.35)
    assert torch.equal(found, invented(vit, 200, number, generator("kinds")))


@pytest.mark.parametrize("number", [0, 1])
def test_pictures_of_each_kind_come_back_in_part(number, pictures):
    """Nearer than their own mean picture, which knows no features, by more than chance."""
    seen, _ = observed(pictures, ("head_only", {}))
    images = invented(seen.model.vit, 1000, number, generator("own", number))
    drawn, moments = before_head(seen, images), Moments()
    moments.add(drawn[:600], images[:600].flatten(1))
    read = Features(drawn[600:], torch.zeros_like(drawn[600:]))
    found = decoded(moments, read, 0.03).view(400, 3, 32, 32)
    flat = moments.means()[1].view(1, 3, 32, 32).expand_as(found)
    errors = [(one - images[600:]).square().mean((1, 2, 3)) for one in (flat, found)]
    less = errors[0] - errors[1]
    assert less.mean() > 3 * less.std() / len(less) ** 0.5


def test_wide_pictures_are_decoded_coarsely_and_fill_their_side(pictures):
    victim = load("vit_vanilla", SMALL | {"img_size": 48}, (), "init", CPU)
    images = invented(victim.model.vit, 1, 0, generator("wide"))
    seen, _ = share(victim, images, torch.tensor([3]), ThreatModel(), (0,))
    found = make(Attack, "decoder", {"steps": 4}).reconstruct(seen, generator("a"), quiet)
    assert found.images.shape == images.shape
    assert psnr(found.images, images) > psnr(victim.model.vit.mean.expand_as(images), images)


@pytest.mark.slow
def test_the_trained_victim_s_head_gives_colors_and_shades_away(pictures):
    victim = load("vit_vanilla", {}, (make(Defense, "head_only", {}),), None, CPU)
    images, labels = pictures(8)
    attack, gain = make(Attack, "decoder", {"steps": 32}), []
    for row in range(8):
        one = images[row : row + 1]
        seen, _ = share(victim, one, labels[row : row + 1], ThreatModel(), (0,))
        found = attack.reconstruct(seen, generator("attack", row), quiet).images
        gain.append(psnr(found, one) - psnr(victim.model.vit.mean.expand_as(one), one))
    assert sum(gain) / len(gain) > 1
