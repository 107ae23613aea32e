"""The prior of a ceiling is no wider than all pictures', and no wider than the picture."""

import pytest
import torch

from privbench.bounds.smoothness import covariance_within
from privbench.pixels import LEVELS
from privbench.prior import covariance
from privbench.victims.load import load
from tests.conftest import CPU

VIT = load("vit_vanilla", {"depth": 1, "embed_dim": 8}, (), "init", CPU).model.vit


def drawn(share, seed=0):
    """A picture of the prior, of so much of its contrast."""
    root = torch.linalg.cholesky(covariance(VIT))
    rng = torch.Generator().manual_seed(seed)
    offset = root @ torch.randn(len(root), generator=rng, dtype=torch.float64)
    return VIT.mean + share * offset.float().view(1, 3, 32, 32)


def test_a_flat_picture_leaves_what_rounding_adds():
    found = covariance_within(VIT, VIT.mean.expand(1, 3, 32, 32))
    assert torch.allclose(found, torch.eye(3072).double() * LEVELS**-2 / 12)


def test_a_picture_that_has_more_of_everything_has_the_prior_of_all():
    assert torch.allclose(covariance_within(VIT, drawn(10.0)), covariance(VIT))


def test_a_weak_picture_has_its_own_mean_square_in_every_band():
    picture = drawn(0.5)
    found = covariance_within(VIT, picture)
    offset = (picture - VIT.mean).double().flatten()
    root = torch.linalg.cholesky(found)
    white = torch.linalg.solve_triangular(root, offset[:, None], upper=False)
    assert float(white.square().mean()) == pytest.approx(1, abs=0.1)
    assert float(found.diagonal().mean()) == pytest.approx(float(offset.square().mean()), rel=0.05)


def test_no_direction_is_wider_than_in_the_prior_of_all():
    smooth = drawn(1.0)
    smooth = torch.nn.functional.avg_pool2d(smooth, 3, stride=1, padding=1, count_include_pad=False)
    found = covariance_within(VIT, smooth)
    narrower = torch.linalg.eigvalsh(covariance(VIT) - found)
    assert float(narrower.min()) > -1e-9
    assert float(found.trace()) < float(covariance(VIT).trace())
