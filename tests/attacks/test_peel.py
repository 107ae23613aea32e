"""Peel: tokens of whole batches, by its algebra, on the bundled weights and at its bound."""

from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from privbench.attack import Attack
from privbench.attacks._peel.gather import Placed, _held, pictures, places
from privbench.attacks._peel.hunt import Hunt
from privbench.attacks._peel.peeling import Peeling, standard, visible
from privbench.attacks._peel.starts import Starts
from privbench.attacks._span.tokens import joined
from privbench.attacks._update.reading import from_pictures
from privbench.component import make
from privbench.dataset import Dataset
from privbench.defense import Defense
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import ThreatModel
from privbench.victims.load import load
from tests.conftest import psnr, quiet

BARE = torch.device("cpu")


@pytest.fixture(scope="module")
def trained():
    return load("vit_patch8", {}, (make(Defense, "none", {}),), "trained", BARE)


def peel(seen, **wanted):
    return make(Attack, "peel", wanted).reconstruct(seen, generator("peel"), quiet)


def pairs(found, truth):
    """Which found picture is which true one, and how near they are."""
    near = torch.stack([torch.stack([(x - y).square().mean() for y in truth]) for x in found])
    one, other = linear_sum_assignment(near.numpy())
    return list(zip(one.tolist(), other.tolist(), strict=True))


def tokens(vit, images):
    """Tokens as the MLP's norm leaves them, without its gain and shift."""
    block = vit.block(0)
    with torch.no_grad():
        stream = vit.sequence(vit.embed(images.to(vit.mean)), vit.positions)
        stream = stream + block.proj(block.heads(block.norm1(stream)))
    return standard(stream.flatten(0, 1), block.norm2.eps)


@pytest.fixture(scope="module")
def private():
    return make(Dataset, "cifar10", {}).load(range(2), 32, 10)


@pytest.fixture(scope="module")
def found(trained, private):
    """What comes back of two pictures."""
    images, labels = private
    return peel(share(trained, images, labels, ThreatModel(batch_size=2), (0,))[0])


@pytest.fixture(scope="module")
def turned(private):
    """The same of the same two in the other order, from an update without the head."""
    withhold = make(Defense, "withhold", {"tensors": "backbone.head*"})
    victim = load("vit_patch8", {}, (withhold,), "trained", BARE)
    images, labels = private
    return peel(share(victim, images.flip(0), labels.flip(0), ThreatModel(batch_size=2), (0,))[0])


def whole(answer, images, labels):
    assert not answer.warnings
    assert answer.report["found"] == 1.0
    for one, other in pairs(answer.images, images):
        assert psnr(answer.images[one], images[other]) > 80
        assert answer.labels is not None
        assert answer.labels[one] == labels[other]
    assert answer.objective < 1e-6


def test_a_batch_comes_back_whole_with_each_picture_s_label(found, private):
    whole(found, *private)


@pytest.mark.slow
def test_so_does_a_larger_one(trained, shared):
    seen, secret = shared(trained, 4)
    whole(peel(seen), secret.fed, secret.labels)


def test_whose_picture_comes_first_changes_nothing_but_the_order(found, turned):
    for one, other in pairs(found.images, turned.images):
        assert (found.images[one] - turned.images[other]).abs().max() < 1e-3


def test_where_no_label_can_be_read_the_pictures_still_come_back(turned, private):
    assert turned.labels is None
    images, _ = private
    assert all(psnr(turned.images[a], images[b]) > 80 for a, b in pairs(turned.images, images))


def test_a_token_that_is_next_to_nothing_keeps_its_size(victim, shared):
    """The class tokens of an untrained model, from their direction and the usual size."""
    seen, secret = shared(victim("vit_patch8", depth=6), 2)
    vit = deepcopy(seen.model.vit).double().requires_grad_(False)
    peeling = Peeling(vit, from_pictures(seen), 34)
    truth = tokens(vit, secret.fed)[[0, 17]]
    off = 1e-3 * torch.randn(truth.shape, generator=generator("off")).double()
    again = peeling.polish(standard(truth + off), 60)
    assert peeling.surprise(again).max() < 300 < peeling.surprise(standard(truth)).min()
    taken = [1 - one.square().mean(1) for one in (again, truth)]
    assert ((taken[0] - taken[1]).abs() < 0.1 * taken[1]).all()


def test_taking_tokens_out_leaves_the_hulls_of_the_others(trained, shared):
    seen, secret = shared(trained, 2)
    vit = deepcopy(trained.model.vit).double().requires_grad_(False)
    peeling = Peeling(vit, from_pictures(seen), 34)
    assert peeling.tokens == 34
    truth = tokens(vit, secret.fed)
    assert (peeling.surprise(truth) < 100).all()
    stranger = standard(torch.randn(4, vit.width, generator=generator("stranger")).double())
    assert (peeling.surprise(stranger) > 1e6).all()
    for token in truth[:20]:
        assert peeling.take(token)
    peeling.refresh()
    assert peeling.left == 14
    gradient, _ = joined(peeling.shared, peeling.block.fc2, None)
    height, width = gradient.shape
    # what twenty tokens gave has gone, but for rounding
    assert visible(torch.linalg.svdvals(gradient), (height, width), 34) <= 20
    hidden = peeling.inner(truth)[2]
    apart = peeling.rest.hull2.residual(hidden).norm(dim=1) / hidden.norm(dim=1)
    assert apart[20:].median() < 1e-2 < 1e-1 < apart[:20].median()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**31), st.floats(1e-9, 1e-6))
def test_the_rank_is_what_stands_out_of_the_noise(rank, seed, noise):
    rng = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(shape, generator=rng, dtype=torch.float64)  # noqa: E731
    left, right = torch.linalg.qr(draw(40, rank)).Q, torch.linalg.qr(draw(60, rank)).Q
    sizes = 10 ** -(2 * torch.rand(rank, generator=rng, dtype=torch.float64))
    gradient = left * sizes @ right.T + noise * draw(40, 60)
    assert visible(torch.linalg.svdvals(gradient), (40, 60), 20) == rank


@pytest.mark.parametrize("spread", [1e-3, 0.3])
def test_the_slope_is_what_automatic_differentiation_says(spread, shared, trained):
    seen, secret = shared(trained, 2)
    vit = deepcopy(trained.model.vit).double().requires_grad_(False)
    whole = Peeling(vit, from_pictures(seen), 34).whole
    at = tokens(vit, secret.fed)[:5]
    at = at + spread * torch.randn(at.shape, generator=generator("at")).double()
    noise = whole.typical(at)
    free = at.clone().requires_grad_()
    (slope,) = torch.autograd.grad(whole.cost(free, noise).sum() / 2, free)
    found = whole.pull(at, noise)
    assert (found - slope).norm() < 1e-8 * slope.norm()
    modelled, _ = whole.model(at, torch.eye(vit.width).to(at), noise)
    assert (found - modelled).norm() < 1e-8 * slope.norm()


def test_members_and_copies_are_read_off_what_attention_gave(victim):
    """Two pictures of nine tokens, one of which occurs three times; nothing says where it is."""
    vit = deepcopy(victim("vit_patch8").model.vit).double().requires_grad_(False)
    block = vit.block(0)
    drawn = torch.randn(2, 9, vit.width, generator=generator("tokens")).double()
    drawn[0, 7], drawn[0, 8] = drawn[0, 6], drawn[0, 6]
    with torch.no_grad():
        given = block.heads(block.norm1(drawn))
    one = torch.tensor([*range(7), *range(9, 18)])
    flat, heads = drawn.flatten(0, 1)[one], given.flatten(0, 1)[one]
    count = len(one)
    nothing = torch.zeros(count, 1).double()
    placed = Placed(
        torch.zeros(count, dtype=torch.long),
        flat,
        heads,
        nothing,
        torch.ones(count).double(),
        torch.full((count,), 1e-6).double(),
        torch.arange(count) != 6,
        torch.ones(1, vit.width).double(),
        torch.zeros(count).double(),
    )
    members = pictures(block, placed, 2, 9)
    assert len(set(members.picture[:7].tolist())) == len(set(members.picture[7:].tolist())) == 1
    assert members.picture[0] != members.picture[-1]
    expected = torch.ones(count, dtype=torch.long)
    expected[6] = 3
    assert torch.equal(members.copies, expected)


def test_a_token_that_is_alone_is_a_picture_of_its_own(victim):
    """Where an update is so rounded that a batch shows one token and no more."""
    vit = deepcopy(victim("vit_patch8", depth=1).model.vit).double()
    one, place = torch.ones(1, vit.width).double(), torch.ones(1, dtype=torch.long)
    scale, doubt = torch.ones(1).double(), torch.full((1,), 1e-6).double()
    placed = Placed(place, one, 0 * one, 0 * one, scale, doubt, place > 0, one, 0 * scale)
    members = pictures(vit.block(0), placed, 2, 17)
    assert members.picture.tolist() == [0]
    assert members.copies.tolist() == [1]


def test_the_bound_is_where_the_page_says(victim):
    """Two pictures are 34 tokens: they fit a width of 35 (T = d - 1), and not one of 33."""
    images, labels = make(Dataset, "cifar10", {}).load(range(16, 18), 32, 10)

    def shared_by(width, heads):
        subject = victim("vit_patch8", embed_dim=width, num_heads=heads)
        return share(subject, images, labels, ThreatModel(batch_size=2), (0,))

    seen, secret = shared_by(35, 5)
    vit = deepcopy(seen.model.vit).double().requires_grad_(False)
    tensors = from_pictures(seen)
    peeling = Peeling(vit, tensors, 34)
    rng = generator("bound")
    hunt = Hunt(peeling, rng, 40)
    assert list(hunt.run(Starts(vit, places(seen, vit, tensors), rng), 128, 4))
    apart = torch.cdist(peeling.found, tokens(vit, secret.fed)).amin(1) / 35**0.5
    assert len(apart) >= 8
    assert apart.median() < 0.05  # any two others are 1 apart
    seen, _ = shared_by(33, 3)
    answer = peel(seen)
    assert "a batch of at most 1 " in answer.warnings[0]
    assert answer.report["found"] == 0


def test_a_token_that_is_left_alone_is_a_picture_by_itself():
    """Without unknowns scipy's solver would end the whole process."""
    assert torch.equal(_held(torch.zeros(3, 0).double(), torch.ones(3).double()), torch.ones(1))
