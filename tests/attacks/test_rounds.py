"""Several rounds on one batch: fresh dice give more away each time."""

import pytest
import torch

from privbench.attacks._linear.ambiguity import Ambiguity
from privbench.attacks.rounds import Rounds, _intersection
from privbench.seeds import generator
from tests.conftest import psnr, quiet


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
