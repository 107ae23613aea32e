"""What Masked Jigsaw Puzzle hides, and what it cannot hide."""

import math
import random
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from privbench.block_masks import blockwise, sample
from privbench.vit import ViT

# The paper's released sampler on 14 x 14 patches, 3 000 draws per nominal ratio, measured
# independently of this code.
# ratio: count, mean, (least, most), P(count reached), P(none), P(corner, edge's middle, center)
RELEASED = {
    0.03: (5, 3.87, (0, 5), 0.45, 0.142, (0.007, 0.015, 0.021)),
    0.05: (9, 8.66, (6, 9), 0.68, 0, (0.009, 0.023, 0.057)),
    0.1: (19, 18.6, (12, 19), 0.69, 0, (0.016, 0.051, 0.138)),
    0.2: (39, 38.7, (34, 39), 0.79, 0, (0.027, 0.104, 0.356)),
    0.27: (52, 51.8, (45, 52), 0.82, 0, (0.032, 0.126, 0.475)),
    0.3: (58, 57.8, (53, 58), 0.82, 0, (0.044, 0.140, 0.545)),
    0.5: (98, 97.8, (91, 98), 0.82, 0, (0.077, 0.268, 0.816)),
    0.7: (137, 136.7, (127, 137), 0.77, 0, (0.145, 0.499, 0.953)),
    0.9: (176, 172.8, (141, 176), 0.38, 0, (0.291, 0.773, 0.997)),
    1.0: (196, 181.7, (147, 196), 0, 0, (0.384, 0.889, 1.0)),
}
DRAWS = 3000
ratios = pytest.mark.parametrize("ratio", RELEASED)


@pytest.fixture(scope="module")
def masks():
    """Masks of a nominal ratio, drawn once."""

    @cache
    def draw(ratio):
        dice = random.Random(0)
        return torch.tensor([sample("blockwise", 14, ratio, 8, 75, dice) for _ in range(DRAWS)])

    return draw


def near(share):
    """Within three standard errors of the difference of two shares of DRAWS draws, each rounded.

    For a share of one half that is 4 percentage points; for the rarest in the table, 0.8.
    """
    return pytest.approx(share, abs=3 * (2 * share * (1 - share) / DRAWS) ** 0.5 + 0.0015)


@ratios
def test_sampler_masks_as_many_patches_as_released(masks, ratio):
    count, mean, (least, most), reached, none, _ = RELEASED[ratio]
    sizes = masks(ratio).sum(1)
    assert int(196 * ratio) == count
    assert sizes.float().mean() == pytest.approx(mean, rel=0.02)
    assert (sizes == count).float().mean() == near(reached)
    assert (sizes == 0).float().mean() == near(none)
    assert sizes.max() == most
    # The least of 3 000 draws is one draw's luck: none of the table's lay below it, so at most
    # 0.1 % of all do (with 95 % confidence); of these, up to twice as many are no surprise.
    assert (sizes < least).sum() <= 0.002 * DRAWS


@ratios
def test_sampler_prefers_the_center_as_much_as_released(masks, ratio):
    often = masks(ratio).float().mean(0).view(14, 14)
    corner = often[[0, 0, 13, 13], [0, 13, 0, 13]].mean()
    edge = often[[0, 0, 13, 13, 6, 7, 6, 7], [6, 7, 6, 7, 0, 0, 13, 13]].mean()
    center = often[6:8, 6:8].mean()
    assert corner < edge < center
    for found, expected in zip((corner, edge, center), RELEASED[ratio][-1], strict=True):
        assert found == near(expected)


def released(grid, count, smallest, largest, dice):
    """Write the released sampler down once more, on an array instead of cells."""
    mask = np.zeros((grid, grid), dtype=bool)
    while (missing := count - int(mask.sum())) > 0:
        cap, before = min(missing, largest), mask.copy()
        for _ in range(10):
            area = dice.uniform(smallest, cap)
            ratio = math.exp(dice.uniform(math.log(0.3), -math.log(0.3)))
            h, w = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
            if max(h, w) >= grid:
                continue
            top = dice.randint(0, grid - h)
            left = dice.randint(0, grid - w)
            block = mask[top : top + h, left : left + w]
            if 0 < (~block).sum() <= cap:
                block[:] = True
                break
        if (mask == before).all():
            break
    return mask.flatten().tolist()


@settings(max_examples=100, deadline=None)
@given(
    grid=st.integers(4, 16),
    share=st.floats(0, 1),
    smallest=st.integers(1, 16),
    largest=st.integers(1, 100),
    seed=st.integers(0, 2**32),
)
def test_sampler_equals_the_released_one_draw_by_draw(grid, share, smallest, largest, seed):
    here, there = random.Random(seed), random.Random(seed)
    count = int(grid**2 * share)
    for _ in range(3):
        expected = released(grid, count, smallest, largest, there)
        assert blockwise(grid, count, smallest, largest, here) == expected
    assert here.getstate() == there.getstate(), "and throws as many dice"


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
