"""Shown patches beside masked ones: the prior's waves, and least squares that knows of the rest."""

import pytest
import torch
from scipy.fft import dctn, idctn
from torch import Generator

from privbench.attack import Attack
from privbench.attacks._linear.masked import solve
from privbench.attacks._linear.waves import Waves
from privbench.component import make
from privbench.defense import Defense
from privbench.patches import cut, join
from privbench.prior import covariance
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import Draw, ThreatModel
from privbench.victims.load import load
from tests.conftest import CPU, psnr, quiet

SPREAD = torch.tensor([0.25, 0.24, 0.26], dtype=torch.float64)


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=Generator().manual_seed(seed))


def dense(victim):
    """Covariance of normalized pictures, channel by channel."""
    vit = victim("vit_vanilla", img_size=16).model.vit
    spread = vit.std.flatten().double().repeat_interleave(16**2)
    return covariance(vit) / spread[:, None] / spread, vit.std.flatten().double()


def test_waves_have_the_variances_of_the_prior(victim):
    whole, spread = dense(victim)
    prior = Waves(16, 4, spread)
    colors = torch.kron(prior.colors, torch.eye(256).double())
    each = (colors @ whole @ colors.T).view(3, 256, 3, 16, 16)
    for axis in range(3):
        rows = torch.from_numpy(dctn(each[axis, :, axis].numpy(), axes=(1, 2), norm="ortho"))
        both = dctn(rows.view(16, 16, 256).numpy(), axes=(0, 1), norm="ortho")
        right = torch.from_numpy(both).reshape(256, 256).diagonal().view(16, 16)
        assert prior.variances[axis] == pytest.approx(right, rel=0.02)


def test_the_form_divides_waves_by_their_variances():
    prior, patches = Waves(16, 4, SPREAD), random(16, 48)
    colored = torch.einsum("ac,chw->ahw", prior.colors, join(patches[None], 4)[0])
    waves = dctn(colored.numpy(), axes=(1, 2), norm="ortho") / prior.variances.numpy()
    back = torch.from_numpy(idctn(waves, axes=(1, 2), norm="ortho"))
    expected = cut(torch.einsum("ac,ahw->chw", prior.colors, back)[None], 4)[0]
    torch.testing.assert_close(prior.form(patches), expected)


def test_one_patch_has_its_part_of_the_whole_covariance(victim):
    whole, spread = dense(victim)
    at = cut(torch.arange(768).view(1, 3, 16, 16).float(), 4)[0, 5].long()
    torch.testing.assert_close(
        Waves(16, 4, spread).of_patch(), whole[at][:, at], rtol=1e-3, atol=1e-3
    )


def system(masked, noise=0.0, seed=0):
    """A picture of the prior, some of its patches masked: what is shared of it, and the patches."""
    prior = Waves(16, 4, SPREAD)
    waves = prior.variances.sqrt() * random(3, 16, 16, seed=seed)
    drawn = torch.from_numpy(idctn(waves.numpy(), axes=(1, 2), norm="ortho"))
    patches = cut(torch.einsum("ac,ahw->chw", prior.colors, drawn)[None], 4)[0]
    token = random(16, 96, seed=seed + 1)
    shown = torch.arange(16) >= masked
    embedding = token.T @ patches
    error = noise * embedding.square().mean().sqrt()
    shared = embedding + error * random(*embedding.shape, seed=seed + 2)
    given = torch.where(shown[:, None], token, 0.0), shared, token.sum(0)
    errors = torch.zeros_like(token[shown]), error.expand_as(embedding)
    return patches, shown, given, (*errors, shown, prior)


def off(found, patches, which):
    return float((found - patches)[which].square().mean() / patches[which].square().mean())


@pytest.mark.parametrize("noise", [0.0, 0.001, 0.03])
@pytest.mark.parametrize("told", [True, False])
def test_shown_patches_come_back_beside_masked_ones(noise, told):
    """What the masked ones span is open; the rest is linear, and the prior joins both."""
    patches, shown, given, rest = system(4, noise)
    found = solve(given[0], given[1], given[2] if told else None, *rest)
    ignored = torch.linalg.lstsq(given[0][shown].T, given[1]).solution
    assert off(found, patches, shown) < off(ignored, patches[shown], slice(None)) / 3
    assert off(found, patches, shown) < (0.01 if told else 0.03)


def test_the_sum_over_all_tokens_helps():
    patches, shown, given, rest = system(4, 0.001)
    found = [solve(*given[:2], total, *rest) for total in (given[2], None)]
    assert off(found[0], patches, shown) < 0.8 * off(found[1], patches, shown)


def test_masked_patches_are_what_the_prior_expects_beside_shown_ones():
    patches, shown, given, rest = system(4, 0.03)
    found = solve(*given, *rest)
    prior = rest[-1]
    # at the most probable picture the prior's pull on what no equation holds is none
    pull = prior.form(found)
    assert pull[~shown].norm() < 1e-2 * pull[shown].norm()
    assert off(found, patches, ~shown) < 0.8


@pytest.mark.parametrize(("defense", "settings"), [("noise", {"sigma": 0.001}), ("round", {})])
def test_pe_ls_finds_shown_patches_of_a_trained_victim(pictures, defense, settings):
    """Without errors worth the name the masked rest was once taken for exact, at 8 dB."""
    victim = load("vit_mjp", {}, (make(Defense, defense, settings),), None, CPU)
    images, labels = pictures(1)
    seen, secret = share(victim, images, labels, ThreatModel(), (0,))
    answer = make(Attack, "pe_ls", {}).reconstruct(seen, generator("a"), quiet)
    flat = seen.model.vit.mean.expand(seen.shape)
    assert isinstance(secret.draw, Draw)
    shown = ~secret.draw.mask[0].view(8, 8).repeat_interleave(4, 0).repeat_interleave(4, 1)
    assert psnr(answer.images[..., shown], secret.fed[..., shown]) > 18
    assert psnr(answer.images, secret.fed) > psnr(flat, secret.fed) + 4
    assert any("Patches are masked" in warning for warning in answer.warnings)
