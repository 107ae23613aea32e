"""Several rounds on one batch: fresh dice give more away each time."""

from dataclasses import replace

import pytest
import torch

from privbench.attacks._linear.ambiguity import Ambiguity
from privbench.attacks._order.votes import Hint, Shown, aligned, order_of, voted
from privbench.attacks.rounds import Rounds, _intersection
from privbench.component import make
from privbench.defense import Defense
from privbench.seeds import generator
from privbench.victims.load import load
from tests.conftest import CPU, psnr, quiet


def solve(seen):
    return Rounds().reconstruct(seen, generator("test"), quiet)


def affine(truth, seed, k):
    """Every row of the truth up to k random directions."""
    rng = torch.Generator().manual_seed(seed)
    wild = torch.randn(truth.shape[1], k, dtype=torch.float64, generator=rng)
    basis = torch.linalg.qr(wild).Q.T
    origin = truth - truth @ basis.T @ basis
    return Ambiguity(origin, basis, torch.zeros(len(truth), dtype=torch.bool))


def test_affine_spaces_meet_in_the_truth():
    truth = torch.randn(5, 12, dtype=torch.float64, generator=generator("truth"))
    one, two = affine(truth, 0, 5), affine(truth, 1, 5)
    found, free, misfit = _intersection([one, two])
    assert free.shape == (12, 0)
    assert misfit < 1e-12
    torch.testing.assert_close(found, truth)
    found, free, _ = _intersection([one])
    assert free.shape == (12, 5)
    torch.testing.assert_close(found, one.origin)
    found, free, _ = _intersection([affine(truth, 0, 7), affine(truth, 1, 7)])
    assert free.shape == (12, 2)


def test_one_round_is_one_update_and_more_have_other_dice(victim, shared):
    subject = victim("vit_mjp")
    seen, secret = shared(subject)
    assert seen.later == ()
    more, same = shared(subject, rounds=4)
    assert len(more.later) == 3
    assert torch.equal(secret.draw.mask, same.draw.mask)
    name = "backbone.pos_embed"
    assert torch.equal(more.update.tensors[name], seen.update.tensors[name])
    masks = {tuple((u.tensors[name][0] == 0).all(1).tolist()) for u in (more.update, *more.later)}
    assert len(masks) == 4
    assert more.protocol.rounds == 4


def test_masked_jigsaw_falls_once_every_patch_was_unmasked(victim, shared):
    subject = victim("vit_mjp", depth=4)
    answers = []
    for rounds in (1, 8):
        seen, secret = shared(subject, rounds=rounds)
        answers.append(solve(seen))
    once, often = answers
    assert once.report["ambiguity"] > 0
    assert any("One round only" in warning for warning in once.warnings)
    assert often.report["ambiguity"] == 0
    assert not often.warnings
    # the private picture, not the shuffled one that was fed
    assert psnr(often.images, secret.images) > 45
    assert psnr(often.images, secret.fed) < 30
    assert psnr(once.images, secret.images) < 25


def test_patches_masked_every_time_stay_open_and_it_says_so(victim, shared):
    subject = victim("vit_mjp", ratio=0.5)
    seen, _ = shared(subject, rounds=2)
    answer = solve(seen)
    name = "backbone.pos_embed"
    always = torch.stack([(u.tensors[name][0, 1:] == 0).all(1) for u in (seen.update, *seen.later)])
    left = int(always.all(0).sum()) - 1
    assert left > 0
    assert answer.report["ambiguity"] >= left
    assert any("masked every time" in warning for warning in answer.warnings)


def test_naive_shuffling_is_outvoted(victim, shared):
    subject = victim("vit_shuffle", ratio=0.2, sampler="uniform")
    seen, secret = shared(subject, rounds=9)
    assert psnr(solve(seen).images, secret.images) > 60


@pytest.mark.parametrize("rounds", [0, -1])
def test_fewer_than_one_round_is_refused(rounds):
    from pydantic import TypeAdapter, ValidationError

    from privbench.threat import ThreatModel

    with pytest.raises(ValidationError):
        TypeAdapter(ThreatModel).validate_python({"rounds": rounds})


def drawn(*shape, seed):
    return torch.randn(shape, dtype=torch.float64, generator=generator("drawn", seed))


def round_of(truth, seed, told, pictures=(0, 1), missing=()):
    """A round: pictures in some order, patches without a place in an order of their own."""
    order = torch.arange(truth.shape[1])
    loose = (~told).nonzero().flatten()
    order[loose] = loose[torch.randperm(len(loose), generator=generator("order", seed))]
    sure = torch.ones(truth.shape[:2], dtype=torch.bool)
    for one in missing:
        sure[one] = False
    shown = truth[list(pictures)][:, order]
    return Shown(torch.where(sure[..., None], shown, 0.0), sure, told)


def without(n, *masked):
    told = torch.ones(n, dtype=torch.bool)
    told[list(masked)] = False
    return told


def test_rounds_vote_for_places_by_content():
    truth = drawn(2, 9, 12, seed="truth")
    rounds = [
        round_of(truth, 0, without(9, 0, 1, 2, 3)),
        round_of(truth, 1, without(9, 2, 3, 4), (1, 0), missing=[(0, 5), (1, 6)]),
        round_of(truth, 2, without(9, 3, 5, 6, 7), missing=[(1, 8)]),
    ]
    found = voted(aligned(rounds), [])
    assert found.known.all()
    # place 3 was never told: its patch is what is left over
    assert (~found.placed).nonzero()[:, 1].tolist() == [3, 3]
    torch.testing.assert_close(found.patches, truth)
    # of one round, patches without a place are there and nowhere in particular
    alone = voted(rounds[:1], [])
    assert alone.known.all()
    assert alone.placed.sum() == 2 * 5


def test_equal_patches_and_a_stranger_do_not_mislead():
    truth = drawn(1, 9, 12, seed="truth")
    truth[0, 4] = truth[0, 5] = truth[0, 0]
    rounds = [round_of(truth, seed, without(9, seed, 4), (0,)) for seed in range(3)]
    rounds[0].patches[0, 8] = drawn(12, seed="stranger")
    torch.testing.assert_close(voted(rounds, []).patches, truth)


def test_linear_algebra_alone_tells_where_known_patches_stood():
    truth = drawn(2, 9, 40, seed="truth")
    first = round_of(truth, 0, without(9, 0, 1, 2, 3, 4))
    # off the differences of the pictures and the patches masked there, all is known
    told = without(9, 6, 7)
    open_ = torch.cat([truth[1] - truth[0], truth[0, ~told]])
    basis = torch.linalg.qr(open_.T).Q.T
    hint = Hint(truth[0] - truth[0] @ basis.T @ basis, basis, told)
    found = voted([first], [hint])
    assert found.placed.all()
    torch.testing.assert_close(found.patches, truth)


def test_the_order_of_a_round_is_read_off_its_patches():
    truth = drawn(9, 12, seed="truth")
    fixed = without(9, 1, 5, 7)
    order = torch.arange(9)
    order[[1, 5, 7]] = torch.tensor([7, 1, 5])
    assert torch.equal(order_of(truth[order], truth, fixed), order)
    assert torch.equal(order_of(truth[order], truth, torch.zeros_like(fixed)), order)
    assert torch.equal(order_of(truth, truth, fixed), torch.arange(9))


@pytest.fixture(scope="module")
def batch(shared):
    """Two pictures from a trained model, under two masks."""
    subject = load("vit_patch8_mjp", {}, (make(Defense, "none", {}),), "trained", CPU)
    return shared(subject, batch=2, seed=2, rounds=2)


@pytest.fixture(scope="module")
def solved(batch):
    return solve(batch[0])


def test_pictures_of_a_batch_come_back_with_every_patch_in_its_place(batch, solved):
    seen, secret = batch
    assert secret.draw.mask.any()
    assert solved.placed
    assert not solved.warnings
    near = [psnr(solved.images[[0, 1]], secret.images), psnr(solved.images[[1, 0]], secret.images)]
    assert max(near) > 80
    # the draw that it names explains the first update
    gradient = seen.model.gradient(solved.images, solved.labels, solved.draw, differentiable=False)
    name = "backbone.blocks.0.mlp.fc1.weight"
    assert (gradient[name] - seen.update.tensors[name]).norm() < 1e-3 * gradient[name].norm()


def test_a_single_round_of_a_batch_has_its_patches_and_not_their_order(batch, solved):
    once = solve(replace(batch[0], later=()))
    assert once.report["found"] == 1
    assert once.report["placed"] < 1
    assert not once.placed
    assert any("One round only" in note for note in once.warnings)
    assert any("without a place" in note for note in once.warnings)
