"""The jigsaw: seams tell neighbors, and the search finds the arrangement that has them all."""

from typing import Any

import numpy as np
import pytest
import torch

from privbench.attack import Attack
from privbench.attacks._order.assembly import assemble, grow, total
from privbench.attacks._order.seams import seams
from privbench.component import make
from privbench.dataset import Dataset
from privbench.errors import BadSetting
from privbench.metric import Metric, Target
from privbench.patches import cut, join
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import Draw, ThreatModel
from tests.conftest import quiet

GRID, SIDE = 6, 16
N = GRID**2


@pytest.fixture(scope="module")
def photo():
    return make(Dataset, "photos", {}).load([2], GRID * SIDE, 10)[0]


@pytest.fixture(scope="module")
def patches(photo):
    return cut(photo, SIDE)[0]


@pytest.fixture(scope="module")
def costs(patches):
    return seams(patches, SIDE)


def solved(patches, stay: Any = 0.1, steps=60, seed=0):
    """The pictures' patches in the order found, and the order."""
    dice = np.random.default_rng(seed)
    stays = np.broadcast_to(np.asarray(stay, float), (GRID, GRID))
    layout, _ = assemble(seams(patches, SIDE), stays, dice, steps, lambda *_: None)
    return patches[torch.from_numpy(layout.ravel())], layout.ravel()


def shuffled(patches, moved, seed=0):
    order = torch.arange(N)
    cells = torch.as_tensor(moved)
    order[cells] = cells[torch.randperm(len(cells), generator=generator("order", seed))]
    return patches[order], order


def test_true_neighbors_beat_their_rivals(costs):
    cells = np.arange(N).reshape(GRID, GRID)
    right = costs[0].argmin(1)[cells[:, :-1]] == cells[:, 1:]
    below = costs[1].argmin(1)[cells[:-1]] == cells[1:]
    assert np.mean([right, below.T]) > 0.8
    assert costs.max() == 0
    assert np.isfinite(costs).all()


def test_seams_of_a_mirrored_picture_are_mirrored(patches, costs):
    mirrored = patches.unflatten(1, (3, SIDE, SIDE)).flip(3).flatten(1)
    np.testing.assert_allclose(seams(mirrored, SIDE)[0], costs[0].T, atol=1e-5)
    turned = patches.unflatten(1, (3, SIDE, SIDE)).mT.flatten(1)
    np.testing.assert_allclose(seams(turned, SIDE)[0], costs[1], atol=1e-5)


def test_flat_patches_are_no_seams():
    flat = torch.full((9, 3 * 16), 0.5)
    assert (seams(flat, 4) == 0).all()


def test_growth_uses_every_patch_once_and_respects_a_frame(costs):
    for start in ({(0, 0): 7}, {(2, 3): 7, (5, 5): 1}):
        assert sorted(grow(costs, start, GRID).ravel()) == list(range(N))
    framed = grow(costs, {(1, 2): 8}, GRID, framed=True)
    assert framed.shape == (GRID, GRID)
    assert framed[1, 2] == 8


def test_a_wholly_shuffled_photograph_comes_back(patches):
    mixed, _ = shuffled(patches, range(N))
    found, _ = solved(mixed)
    assert torch.equal(found, patches)


def test_fixed_cells_stay_and_the_others_are_filled(patches):
    masked = [7, 8, 9, 13, 14, 15, 19, 20, 21]
    mixed, _ = shuffled(patches, masked)
    stay = np.full(N, np.inf)
    stay[masked] = 0.1
    found, order = solved(mixed, stay.reshape(GRID, GRID), steps=20)
    outside = np.setdiff1d(np.arange(N), masked)
    assert (order[outside] == outside).all()
    assert torch.equal(found, patches)


def test_the_search_never_ends_above_where_it_started(patches):
    mixed, _ = shuffled(patches, range(N))
    cost, stay = seams(mixed, SIDE), np.zeros((GRID, GRID))
    heard = []
    layout, last = assemble(
        cost, stay, np.random.default_rng(0), 10, lambda _, value: heard.append(value)
    )
    fed = np.arange(N).reshape(GRID, GRID)
    assert heard == sorted(heard, reverse=True)
    assert last <= heard[-1] < total(fed, cost, stay)
    assert last == pytest.approx(total(layout, cost, stay))


def run(subject, images, **settings):
    seen, secret = share(subject, images, torch.tensor([3]), ThreatModel(), (0,))
    attack = make(Attack, "jigsaw", {"steps": 40, **settings})
    return attack.reconstruct(seen, generator("a"), quiet), secret


@pytest.mark.parametrize("ratio", [0.3, 1.0])
def test_naive_shuffling_is_undone(victim, photo, ratio):
    size = {"img_size": GRID * SIDE, "patch_size": SIDE}
    answer, secret = run(victim("vit_shuffle", ratio=ratio, sampler="uniform", **size), photo)
    target = Target(secret.images, secret.fed, moved=True, patch=SIDE)
    judge = make(Metric, "placed", {})
    assert judge.score(secret.fed, target) < 1
    assert judge.score(answer.images, target) == 1
    assert answer.report["moved"] > 0.1


def test_what_no_defense_moves_stays(victim, pictures):
    images, _ = pictures(1)
    answer, secret = run(victim("vit_vanilla"), images)
    assert answer.report["moved"] == 0
    assert (answer.images - secret.images).abs().max() < 1e-2


def test_only_masked_cells_are_filled_where_the_mask_is_known(victim, pictures):
    images, _ = pictures(1)
    answer, secret = run(victim("vit_mjp"), images)
    content = make(Attack, "pe_ls", {}).reconstruct(
        share(victim("vit_mjp"), images, torch.tensor([3]), ThreatModel(), (0,))[0],
        generator("a"),
        quiet,
    )
    assert isinstance(secret.draw, Draw)
    outside = ~secret.draw.mask[0]
    ours, theirs = cut(answer.images, 4)[0], cut(content.images, 4)[0]
    assert torch.equal(ours[outside], theirs[outside])
    assert torch.equal(join(ours[None], 4), answer.images)


def test_its_own_content_is_refused():
    with pytest.raises(BadSetting, match="another attack"):
        make(Attack, "jigsaw", {"content": "jigsaw"})
