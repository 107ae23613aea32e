"""The ensemble: who runs, who is chosen and why, what it proves, and what it admits."""

from itertools import chain, pairwise
from typing import get_args

import pytest
import torch

from privbench.attack import Attack
from privbench.attacks import auto, pe_ls
from privbench.attacks._auto.probe import probe
from privbench.attacks._auto.tiers import STAGES, Tier, members
from privbench.attacks._auto.verdict import Distance, Verdict
from privbench.attacks._update.reading import labels, mask
from privbench.attacks.auto import Candidate
from privbench.component import make
from privbench.defense import Defense
from privbench.seeds import generator
from privbench.threat import Reconstruction
from privbench.victims.load import load
from tests.conftest import CPU, psnr, quiet

TIERS = get_args(Tier)


def attack(tier="smoke"):
    return make(Attack, "auto", {"tier": tier})


@pytest.fixture(scope="module")
def plain(victim, shared):
    return shared(victim("vit_vanilla"))


def test_every_member_can_be_made():
    for _, stage in STAGES:
        for member in stage:
            make(Attack, member.name, member.settings)
    named = [one.label for _, stage in STAGES for one in stage]
    assert "auto" not in named
    assert len(set(named)) == len(named)


@pytest.mark.parametrize(("low", "high"), list(pairwise(TIERS)))
def test_a_higher_tier_runs_all_of_the_lower_one(low, high, plain, victim, shared):
    masked, _ = shared(victim("vit_mjp"))
    for seen in (plain[0], masked):
        less, more = (list(chain(*members(tier, probe(seen)))) for tier in (low, high))
        assert [one for one in more if one in less] == less
        assert len(more) >= len(less)


def test_an_exact_picture_is_proved_and_nothing_else_is_run(plain):
    seen, secret = plain
    found = attack("fast").reconstruct(seen, generator("a"), quiet)
    assert found.report["certified"] == 1
    assert found.choice == "pe_ls"
    assert "gradinv" not in found.members
    assert (found.images - secret.images).abs().max() < 1e-6
    assert not found.warnings


def test_what_it_probes_is_what_the_client_did(victim, shared):
    seen, secret = shared(victim("vit_mjp"))
    facts = probe(seen)
    assert facts.masked == int(secret.draw.mask.sum())
    assert facts.open_dimensions == 64 * (facts.masked - 1)
    assert 0 < facts.hidden <= facts.masked
    two, _ = shared(victim("vit_vanilla", "round"), 2)
    assert (probe(two).batch, probe(two).precision) == (2, "bfloat16")
    assert probe(two).open_dimensions == 2 * 64 * 48


def test_the_mask_shows_under_noise(victim, shared):
    seen, secret = shared(victim("vit_mjp", "noise"))
    found = mask(seen)
    assert found is not None
    assert torch.equal(found.mask, secret.draw.mask)


def test_without_a_mask_no_row_counts_as_one(victim, shared):
    seen, secret = shared(victim("vit_mjp", "noise", ratio=0.0))
    assert not secret.draw.mask.any()
    found = mask(seen)
    assert found is not None
    assert not found.mask.any()


@pytest.mark.parametrize("defense", ["none", "noise", "round", "prune", "clip"])
def test_the_truth_stands_at_the_floor_and_others_do_not(defense, victim, shared):
    seen, secret = shared(victim("vit_vanilla", defense))
    verdict = Verdict(seen, generator("v"))
    truth = verdict.distance(secret.images, labels(seen))
    assert truth.at_floor
    assert (truth.floor > 0) == (defense == "noise")
    assert not verdict.distance(secret.images.flip(3), labels(seen)).at_floor


def test_a_batch_is_proved_as_a_picture_is(shared):
    subject = load("vit_patch8", {}, (make(Defense, "none", {}),), "trained", CPU)
    seen, secret = shared(subject, 2)
    found = attack("fast").reconstruct(seen, generator("a"), quiet)
    assert found.report["certified"] == 1
    assert found.choice == "peel"
    assert (found.report["probe_tokens"], found.report["probe_largest_batch"]) == (34, 11)
    images, answered = found.images, found.labels
    assert answered is not None
    if (images[0] - secret.images[0]).abs().max() > 1e-6:  # the order in a batch is in no gradient
        images, answered = images.flip(0), answered.flip(0)
    assert (images - secret.images).abs().max() < 1e-6
    assert torch.equal(answered, secret.labels)
    assert not found.warnings


def test_a_batch_beyond_the_bound_is_told_where_the_bound_is(victim, shared):
    seen, _ = shared(victim("vit_vanilla"), 2)
    found = attack().reconstruct(seen, generator("a"), quiet)
    assert found.report["certified"] == 0
    assert any("130, more than the width less one, 127" in note for note in found.warnings)
    assert any("a batch of at most 1" in note for note in found.warnings)


def test_only_the_right_picture_is_proved(plain):
    seen, secret = plain
    verdict = Verdict(seen, generator("v"))
    near = (secret.images + 1e-3).clamp(0, 1)  # a quarter of a step of the grid
    proved = verdict.proof(near, labels(seen))
    assert proved is not None
    assert (proved - secret.images).abs().max() < 1e-6
    assert verdict.proof(secret.images.flip(3), labels(seen)) is None
    off = secret.images.clone()
    off[0, 0, 3, 3] = 1 - off[0, 0, 3, 3]
    assert verdict.proof(off, labels(seen)) is None


def test_noise_is_never_proof(victim, shared):
    seen, secret = shared(victim("vit_vanilla", "noise"))
    assert Verdict(seen, generator("v")).proof(secret.images, labels(seen)) is None


def test_a_member_that_fails_is_a_note_and_the_others_go_on(plain, monkeypatch):
    def crash(*_):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(pe_ls.PositionLeastSquares, "reconstruct", crash)
    found = attack().reconstruct(plain[0], generator("a"), quiet)
    assert "pe_ls" not in found.members
    assert any("pe_ls failed (ZeroDivisionError: by zero)" in note for note in found.warnings)


def test_a_listener_that_ends_the_run_ends_it(plain):
    def stop(*_):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        attack().reconstruct(plain[0], generator("a"), stop)


def test_the_choice_has_the_nearest_gradient(victim, shared):
    seen, secret = shared(victim("vit_vanilla", "noise"))
    found = attack().reconstruct(seen, generator("a"), quiet)
    distances = {name: found.report[f"distance_{name}"] for name in found.members}
    assert found.choice == min(distances, key=distances.__getitem__)
    assert found.objective == distances[found.choice]
    assert psnr(found.images, secret.images) > psnr(found.members["mean"], secret.images)


def test_with_positions_withheld_somebody_still_answers(victim, shared):
    seen, _ = shared(victim("vit_vanilla", "withhold"))
    found = attack().reconstruct(seen, generator("a"), quiet)
    assert found.choice
    assert "pe_ls" not in found.members
    assert any("No member explains the update" in note for note in found.warnings)


def test_members_that_disagree_at_the_floor_are_no_evidence(plain):
    _, secret = plain
    same, other = (
        Candidate(name, Reconstruction(images, 0.0), Distance(1e-4, 1e-4))
        for name, images in (("a", secret.images), ("b", 1 - secret.images))
    )
    [doubt] = auto._doubts([same, other], same, 0, probe(plain[0]))
    assert "members disagree (a and b)" in doubt
    assert auto._doubts([same], same, 0, probe(plain[0])) == []


def test_gradient_matching_is_left_out_where_it_comes_no_nearer(plain, victim, shared):
    seen, secret = plain
    masked, _ = shared(victim("vit_mjp"))

    def reached(apart, floor, update):
        one = Candidate("a", Reconstruction(secret.images, 0.0), Distance(apart, floor))
        return auto._reached([one], probe(update))

    assert reached(1e-7, 0.0, masked)
    assert not reached(1e-5, 0.0, masked)
    # noise may hide that another picture is nearer, and where nothing is open it comes that near
    assert not reached(1e-7, 1e-8, masked)
    assert not reached(1e-7, 0.0, seen)
    assert not auto._reached([], probe(masked))


def test_a_client_without_a_mask_shows_none(victim, shared):
    seen, secret = shared(victim("vit_mjp", ratio=0.0, depth=6))
    assert not secret.draw.mask.any()
    found = attack("fast").reconstruct(seen, generator("a"), quiet)
    assert found.report["probe_masked"] == 0
    assert found.report["certified"] == 1


def test_errors_of_known_size_send_the_most_probable_picture(victim, shared):
    def sent(*given, **more):
        found = probe(shared(victim(*given), **more)[0])
        return [one.name for stage in members("fast", found) for one in stage]

    assert "map" in sent("vit_vanilla", "noise")
    assert "map" in sent("vit_vanilla", "round")
    assert "map" not in sent("vit_vanilla")
    assert "map" not in sent("vit_vanilla", "noise", batch=2)
