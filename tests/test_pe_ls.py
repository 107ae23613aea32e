"""The closed form: exact where the algebra says so, and honest where not."""

import pytest
import torch

from privbench.attack import check
from privbench.attacks.pe_ls import PositionLeastSquares
from privbench.client import generator
from privbench.errors import NotGranted
from tests.conftest import psnr, quiet


def solve(seen):
    return PositionLeastSquares().reconstruct(seen, generator("test"), quiet)


@pytest.mark.parametrize("name", ["vit_vanilla", "vit_shuffle"])
def test_one_picture_comes_back_exactly(victim, shared, name):
    seen, secret = shared(victim(name, depth=6))
    answer = solve(seen)
    assert psnr(answer.images, secret.fed) > 75
    assert answer.report["rank"] == 64
    assert answer.report["residual"] < 1e-5
    assert answer.report["bias_mismatch"] < 1e-5
    assert not answer.warnings


def test_double_precision_leaves_no_error(victim, pictures):
    from privbench.client import share
    from privbench.threat import ThreatModel

    subject = victim("vit_vanilla")
    subject.model.vit.double()
    images, labels = pictures(1)
    images = images.double()
    seen, _ = share(subject, images, labels, ThreatModel(), (0,))
    assert (solve(seen).images - images).abs().max() < 1e-6


@pytest.mark.parametrize("defense", ["clip"])
def test_a_common_factor_does_not_hide_the_picture(victim, shared, defense):
    seen, secret = shared(victim("vit_vanilla", defense))
    assert psnr(solve(seen).images, secret.fed) > 75


def test_rounding_costs_decibels(victim, shared):
    seen, secret = shared(victim("vit_vanilla", "round"))
    plain, _ = shared(victim("vit_vanilla"))
    assert psnr(solve(seen).images, secret.fed) < psnr(solve(plain).images, secret.fed) - 20


def test_a_batch_is_a_mixture_and_says_so(victim, shared):
    answer = solve(shared(victim("vit_vanilla"), batch=2)[0])
    assert torch.equal(answer.images[0], answer.images[1])
    assert any("batch of 2" in warning for warning in answer.warnings)


def test_a_narrow_model_gets_the_minimum_norm_and_says_so(victim, shared):
    seen, _ = shared(victim("vit_vanilla", embed_dim=48))
    answer = solve(seen)
    assert answer.report["rank"] == 47
    assert any("64 patches exceed width - 1 = 47" in warning for warning in answer.warnings)


def test_a_mask_is_named_as_the_reason(victim, shared):
    seen, secret = shared(victim("vit_mjp"))
    answer = solve(seen)
    assert answer.report["rank"] == 64 - int(secret.draw.mask.sum())
    assert any("mask" in warning for warning in answer.warnings)


@pytest.mark.parametrize(
    ("name", "defense"), [("vit_nope", "none"), ("vit_sincos", "none"), ("vit_vanilla", "withhold")]
)
def test_refused_without_the_position_gradient(victim, name, defense):
    with pytest.raises(NotGranted, match=r"reads the gradient of backbone\.pos_embed"):
        check(PositionLeastSquares(), "pe_ls", frozenset(), victim(name, defense).shared())
