"""Malicious servers: granted only on request, on rows of their own, and worth the name."""

from dataclasses import replace

import pytest
import torch

from privbench.attack import Attack
from privbench.component import find, make, names
from privbench.errors import NotGranted, UnsupportedModel
from privbench.records.store import Store
from privbench.reports.leaderboard import leaderboard
from privbench.running.client import share
from privbench.running.listener import Listener
from privbench.running.plan import plan
from privbench.running.runner import run
from privbench.running.scoring import aligned
from privbench.running.suite import Suite
from privbench.running.victims import Victims
from privbench.seeds import generator
from privbench.threat import ThreatModel
from privbench.vit import ViT
from tests.conftest import CPU, psnr, quiet

MALICIOUS = [name for name in names("attacks") if find(Attack, name).malicious]


def caught(name, subject, batch, pictures, **settings):
    """An attack's answer to a client that ran the weights it was sent; in the truth's order."""
    attack = make(Attack, name, settings)
    sent = attack.tamper(subject.model, generator("tamper"))
    images, labels = pictures(batch)
    threat = ThreatModel(batch_size=batch, server="malicious")
    seen, secret = share(replace(subject, model=sent), images, labels, threat, (0,))
    answer = attack.reconstruct(seen, generator("a"), quiet)
    images = aligned(answer.images, secret.images)
    found = [psnr(one, truth) for one, truth in zip(images, secret.images, strict=True)]
    return found, answer


def tamper(name, subject):
    return make(Attack, name, {}).tamper(subject.model, generator("a"))


def rungs(model):
    """Lengths of the head's rows; their squares are below float32."""
    return model.vit.backbone.head.weight.double().norm(dim=1)


def test_there_are_some():
    assert MALICIOUS == ["fishing", "imprint"]


@pytest.mark.parametrize("name", MALICIOUS)
def test_refused_unless_the_server_may_be_malicious(name):
    options = {"attack": name, "model": "vit_vanilla", "weights": "init", "images": 1}
    with pytest.raises(NotGranted, match=r"--set threat\.server=malicious"):
        plan(Suite.build(options, None), CPU)
    allowed = Suite.build(options | {"set": ["threat.server=malicious"]}, None)
    assert plan(allowed, CPU)[0].refusal is None


@pytest.mark.parametrize("name", names("attacks"))
@pytest.mark.parametrize("model", ["vit_vanilla", "vit_mjp"])
def test_what_is_sent_has_the_shapes_of_the_model(name, model, victim):
    subject = victim(model, **find(Attack, name).demands)
    before = {key: t.clone() for key, t in subject.model.vit.state_dict().items()}
    attack = make(Attack, name, {})
    sent, again = (attack.tamper(subject.model, generator("a")) for _ in range(2))
    after = sent.vit.state_dict()
    assert {k: t.shape for k, t in after.items()} == {k: t.shape for k, t in before.items()}
    assert set(sent.vit.trained()) == set(subject.model.vit.trained())
    assert all(torch.equal(t, before[k]) for k, t in subject.model.vit.state_dict().items())
    assert all(torch.equal(t, after[k]) for k, t in again.vit.state_dict().items())
    assert attack.malicious == any(not torch.equal(after[k], t) for k, t in before.items())


def test_a_frozen_table_is_not_the_servers_to_send(victim):
    subject = victim("vit_sincos")
    with pytest.raises(UnsupportedModel, match="trained position embeddings"):
        make(Attack, "imprint", {}).tamper(subject.model, generator("a"))
    sent = make(Attack, "fishing", {}).tamper(subject.model, generator("a"))
    assert torch.equal(sent.vit.positions, subject.model.vit.positions)


@pytest.mark.parametrize(("batch", "least"), [(1, 70), (4, 40)])
def test_fishing_brings_one_picture_of_a_batch(batch, least, victim, pictures):
    found, answer = caught("fishing", victim("vit_vanilla", depth=6), batch, pictures)
    assert max(found) > least
    assert answer.report["residual"] < 2e-5
    assert sum(one > 30 for one in found) == 1
    assert not any("mixture" in warning for warning in answer.warnings)


def test_the_highest_class_of_a_batch_makes_its_gradient(victim, pictures):
    subject = victim("vit_vanilla")
    subject = replace(subject, model=make(Attack, "fishing", {}).tamper(subject.model, generator()))
    images, labels = pictures(10)

    def gradient(chosen):
        threat = ThreatModel(batch_size=len(chosen), server="malicious")
        seen, _ = share(subject, images[chosen], labels[chosen], threat, (0,))
        return len(chosen) * seen.update.tensors[ViT.PROJECTION].double()

    assert sorted(labels.tolist()) == list(range(10))
    order = rungs(subject.model)[labels].argsort().tolist()
    for batch in ([0, 1, 2], [3, 5, 4], [9, 0], list(range(10))):  # the lowest two share a rung
        whole, alone = gradient([order[k] for k in batch]), gradient([order[max(batch)]])
        assert alone.norm() > 0
        assert (whole - alone).norm() < 1e-3 * alone.norm()
    assert all(gradient([k]).norm() > 0 for k in range(10))


def test_two_pictures_of_the_highest_class_mix_and_it_says_so(victim, pictures):
    subject = victim("vit_vanilla", depth=6)
    found, answer = caught("fishing", subject, 2, lambda _: (pictures(2)[0], torch.tensor([5, 5])))
    assert max(found) < 25
    assert any("No single image dominates" in warning for warning in answer.warnings)


def test_noise_is_noise_on_the_smallest_gradient_too(victim, pictures):
    sent = make(Attack, "fishing", {}).tamper(victim("vit_vanilla").model, generator("tamper"))
    lowest = rungs(sent).argmin()[None]

    def one(_):
        return pictures(1)[0], lowest

    (still,), _ = caught("fishing", victim("vit_vanilla", depth=6), 1, one)
    (noisy,), _ = caught("fishing", victim("vit_vanilla", "noise", depth=6), 1, one)
    assert still > 70
    assert noisy < 40


def test_an_honest_head_mixes_the_same_batch(victim, shared):
    seen, secret = shared(victim("vit_vanilla", depth=6), 4)
    answer = make(Attack, "fishing", {}).reconstruct(seen, generator("a"), quiet)
    assert max(map(psnr, answer.images, secret.images)) < 25
    assert any("No single image dominates" in warning for warning in answer.warnings)


def test_a_head_of_one_class_has_no_ladder(victim):
    with pytest.raises(UnsupportedModel, match="two classes or more"):
        tamper("fishing", victim("vit_vanilla", num_classes=1))


def test_bins_need_stock_blocks(victim):
    with pytest.raises(UnsupportedModel, match="blocks of a stock ViT"):
        tamper("imprint", victim("vit_vanilla", first_block="april"))


@pytest.mark.parametrize(("batch", "mean", "worst"), [(1, 80, 80), (4, 60, 30)])
def test_imprint_brings_whole_batches(batch, mean, worst, victim, pictures):
    found, answer = caught("imprint", victim("vit_vanilla", depth=6), batch, pictures)
    assert min(found) > worst
    assert sum(found) / batch > mean
    assert answer.objective == pytest.approx(1 - answer.report["found"])


def test_imprint_finds_what_a_masking_client_still_places(victim, pictures):
    _, answer = caught("imprint", victim("vit_mjp", depth=6), 1, pictures)
    assert 0.6 < answer.report["found"] < 0.8  # 30 % are masked, and their places with them
    assert any("found with their places" in warning for warning in answer.warnings)


def test_wide_patches_come_back_smaller(victim, pictures):
    found, answer = caught("imprint", victim("vit_vanilla", depth=3, patch_size=8), 1, pictures)
    assert found[0] > 20
    assert any("1/2 of their side" in warning for warning in answer.warnings)


def test_one_block_leaves_no_room_and_says_so(victim):
    with pytest.raises(UnsupportedModel, match="two blocks"):
        make(Attack, "imprint", {}).tamper(victim("vit_vanilla", depth=1).model, generator("a"))


def test_a_client_with_other_weights_is_noticed(victim, shared):
    seen, _ = shared(victim("vit_vanilla"))
    answer = make(Attack, "imprint", {}).reconstruct(seen, generator("a"), quiet)
    assert torch.equal(answer.images, seen.model.vit.mean.expand(seen.shape))
    assert any("did not run the weights" in warning for warning in answer.warnings)


def test_malicious_servers_have_rows_of_their_own(tmp_path):
    store = Store(tmp_path)
    for server, attack in (("honest", "pe_ls"), ("malicious", "imprint")):
        options = {"attack": attack, "model": "vit_vanilla", "weights": "init", "images": 1}
        settings = [f"threat.server={server}", "model.depth=2"]
        run(
            plan(Suite.build(options | {"set": settings}, None), CPU),
            store,
            Listener(),
            Victims(CPU),
        )
    table = leaderboard(store.records())
    assert sorted(table["threat"]) == [
        "knows nothing, batch 1",
        "knows nothing, batch 1, malicious server",
    ]
