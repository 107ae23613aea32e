"""What Masked Jigsaw Puzzle hides, and what it cannot hide."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from privbench.puzzle import blockwise, sample
from privbench.threat import Draw
from privbench.vit import ViT

# Mean count and share of draws on target, 14 x 14 patches, 3 000 draws: the paper's released
# sampler, measured independently of this code. ratio: (count, mean, P(count reached)).
RELEASED = {0.1: (19, 18.6, 0.69), 0.3: (58, 57.8, 0.82), 0.5: (98, 97.8, 0.82)}
CORNER_EDGE_CENTER = {0.1: (0.016, 0.051, 0.138), 0.3: (0.044, 0.140, 0.545)}


@pytest.mark.parametrize("ratio", RELEASED)
def test_sampler_behaves_as_released(ratio):
    count, mean, reached = RELEASED[ratio]
    dice = random.Random(0)
    masks = torch.tensor([blockwise(14, count, 8, 75, dice) for _ in range(3000)])
    sizes = masks.sum(1)
    assert sizes.max() <= count
    assert sizes.float().mean() == pytest.approx(mean, rel=0.02)
    assert (sizes == count).float().mean() == pytest.approx(reached, abs=0.04)


@pytest.mark.parametrize("ratio", CORNER_EDGE_CENTER)
def test_sampler_prefers_the_center(ratio):
    dice = random.Random(1)
    masks = torch.tensor([blockwise(14, int(196 * ratio), 8, 75, dice) for _ in range(3000)])
    often = masks.float().mean(0).view(14, 14)
    corner = often[[0, 0, 13, 13], [0, 13, 0, 13]].mean()
    edge = often[[0, 0, 13, 13, 6, 7, 6, 7], [6, 7, 6, 7, 0, 0, 13, 13]].mean()
    center = often[6:8, 6:8].mean()
    for found, expected in zip((corner, edge, center), CORNER_EDGE_CENTER[ratio], strict=True):
        assert found == pytest.approx(expected, abs=0.015)


def test_a_ratio_below_the_smallest_block_often_masks_nothing():
    dice = random.Random(0)
    empty = [not any(blockwise(14, 5, 8, 75, dice)) for _ in range(3000)]
    assert sum(empty) / 3000 == pytest.approx(0.142, abs=0.02)


@settings(max_examples=50, deadline=None)
@given(
    grid=st.integers(4, 16),
    ratio=st.floats(0, 1),
    sampler=st.sampled_from(["blockwise_exact", "uniform"]),
    seed=st.integers(0, 2**32),
)
def test_exact_samplers_mask_exactly_the_nominal_count(grid, ratio, sampler, seed):
    mask = sample(sampler, grid, ratio, 8, 75, random.Random(seed))
    assert len(mask) == grid**2
    assert sum(mask) == int(grid**2 * ratio)


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("batch", [1, 3])
def test_zero_rows_of_the_position_gradient_are_the_mask(victim, shared, ratio, batch):
    seen, secret = shared(victim("vit_mjp", ratio=ratio), batch)
    rows = seen.update.tensors[ViT.POSITIONS][0]
    zero = (rows == 0).all(dim=1)
    assert not zero[0], "the class token's row is never masked"
    assert secret.draw.mask.any()
    assert torch.equal(zero[1:], secret.draw.mask[0])


def gradients(victim, images, labels, draw):
    victim.model.vit.double()
    return victim.model.gradient(images.double(), labels, draw, differentiable=False)


def relative(one, two):
    scale = max(float(g.abs().max()) for g in two.values())
    return max(float((one[name] - two[name]).abs().max()) for name in two) / scale


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_permuting_masked_patches_changes_no_gradient(victim, pictures, seed):
    images, labels = pictures(1)
    subject = victim("vit_mjp", depth=6)
    one = subject.model.defense.draw(subject.model.vit, 1, torch.Generator().manual_seed(seed))
    still = Draw(one.mask, torch.arange(64)[None])
    assert not torch.equal(one.order, still.order)
    moved, unmoved = (gradients(subject, images, labels, draw) for draw in (one, still))
    assert relative(moved, unmoved) < 1e-10


def test_permuting_patches_under_their_own_positions_changes_the_gradient(victim, pictures):
    images, labels = pictures(1)
    subject = victim("vit_shuffle")
    one = subject.model.defense.draw(subject.model.vit, 1, torch.Generator().manual_seed(0))
    moved = gradients(subject, images, labels, one)
    assert relative(moved, gradients(subject, images, labels, None)) > 1e-6


def test_without_dice_the_model_is_the_plain_one(victim, pictures):
    images, _ = pictures(2)
    subject = victim("vit_mjp").model
    assert torch.equal(subject.defense.forward(subject.vit, images, None), subject.vit(images))


def test_one_draw_per_batch_or_per_image(victim):
    rng = torch.Generator().manual_seed(0)
    for per, equal in (("batch", True), ("image", False)):
        model = victim("vit_mjp", per=per).model
        mask = model.defense.draw(model.vit, 4, rng).mask
        assert bool((mask == mask[0]).all()) is equal


def test_masks_move_only_masked_patches(victim):
    model = victim("vit_shuffle").model
    draw = model.defense.draw(model.vit, 2, torch.Generator().manual_seed(3))
    away = draw.order != torch.arange(64)
    assert away.any()
    assert not (away & ~draw.mask).any()
    assert torch.equal(draw.order.sort(1).values, torch.arange(64).expand(2, -1))
