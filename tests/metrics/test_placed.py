"""The share of patches in their place: what counts as a place, and what as a patch."""

import pytest
import torch
from torch import Generator, Tensor

from privbench.component import make
from privbench.metric import Metric, Target
from privbench.patches import cut, join

SIDE = 8


@pytest.fixture
def judge() -> Metric:
    return make(Metric, "placed", {})


def random(batch: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, 32, 32, generator=Generator().manual_seed(seed))


def ordered(images: Tensor, order: list[int]) -> Tensor:
    return join(cut(images, SIDE)[:, order], SIDE)


def target(images: Tensor, *, moved: bool = True) -> Target:
    return Target(images, images, moved=moved, patch=SIDE)


@pytest.mark.parametrize(
    ("order", "share"),
    [
        (list(range(16)), 1),
        ([1, 0, *range(2, 16)], 14 / 16),
        ([*range(1, 16), 0], 0),
        ([*range(8), 9, 10, 8, *range(11, 16)], 13 / 16),
    ],
)
def test_patches_away_from_their_place_are_counted(judge, order, share):
    images = random()
    assert judge.score(ordered(images, order), target(images)).item() == pytest.approx(share)


def test_noise_hides_no_place_until_it_hides_the_patch(judge):
    images = random()
    noise = torch.randn(images.shape, generator=Generator().manual_seed(1))
    assert judge.score(images + 0.1 * noise, target(images)).item() == 1
    shares = [judge.score(images + s * noise, target(images)).item() for s in (1, 30)]
    assert 1 >= shares[0] >= shares[1]
    assert shares[1] < 0.5


def test_patches_that_nobody_can_tell_apart_may_swap(judge):
    patches = cut(random(), SIDE)
    patches[:, 3] = patches[:, 12] + 0.005
    images = join(patches, SIDE)
    order = list(range(16))
    order[3], order[12] = 12, 3
    assert judge.score(ordered(images, order), target(images)).item() == 1
    order[3], order[12], order[5] = 12, 5, 3
    assert judge.score(ordered(images, order), target(images)).item() == 14 / 16


def test_a_flat_picture_has_hardly_a_patch_in_place(judge):
    images = random(8)
    assert judge.score(torch.full_like(images, 0.5), target(images)).mean() < 0.3


def test_it_means_nothing_where_nothing_moves(judge):
    images = random()
    assert judge.applies(target(images))
    assert not judge.applies(target(images, moved=False))
