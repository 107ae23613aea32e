"""A client that holds more pictures than a batch, and one whose AdamW has stepped before."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from privbench.attacks._auto.verdict import Verdict
from privbench.attacks._matching.local import LocalModel
from privbench.attacks._update.reading import mask
from privbench.attacks.fedavg import FederatedAveraging
from privbench.errors import BadSetting, NotGranted
from privbench.running.attempt import run_case
from privbench.running.client import share
from privbench.running.heeded import refuse_alone
from privbench.running.plan import plan
from privbench.running.suite import Suite
from privbench.running.victims import Victims
from privbench.seeds import generator
from privbench.threat import Draw, Knowledge, Protocol, ThreatModel
from privbench.vit import ViT
from tests.conftest import CPU, quiet


def jobs(*settings, **options):
    given = {"attack": "mean", "model": "vit_vanilla", "weights": "init"} | options
    return plan(Suite.build({**given, "set": ["model.depth=1", *settings]}, None), CPU)


def changed(vit, optimizer, batches, rate, *, earlier=()):
    """Return what torch's own optimizer subtracts, over the rate."""
    model = copy.deepcopy(vit)
    before = {name: p.detach().clone() for name, p in model.trained().items()}
    taking = optimizer(model.trained().values(), lr=rate)
    for number, (images, labels) in enumerate([*earlier, *batches]):
        if number <= len(earlier):
            with torch.no_grad():
                for name, p in model.trained().items():
                    p.copy_(before[name])
        taking.zero_grad()
        cross_entropy(model(images), labels).backward()
        taking.step()
    return {name: (before[name] - p.detach()) / rate for name, p in model.trained().items()}


def apart(found, other):
    return max(float((found[n] - t).norm() / t.norm().clamp(min=1e-9)) for n, t in other.items())


WARM = {"optimizer": "adamw", "wire": "difference", "local_rate": 1e-3, "warmup": 3}


def test_a_warm_adamw_is_that_of_torch(victim, pictures):
    subject = victim("vit_vanilla", depth=1)
    images, labels = pictures(4)
    earlier = images[1:], labels[1:]
    seen, _ = share(subject, images[:1], labels[:1], ThreatModel(**WARM), (0,), earlier)
    ones = [(images[i : i + 1], labels[i : i + 1]) for i in range(4)]
    warm = changed(subject.model.vit, torch.optim.AdamW, ones[:1], 1e-3, earlier=ones[1:])
    fresh = changed(subject.model.vit, torch.optim.AdamW, ones[:1], 1e-3)
    for name in (ViT.PROJECTION, ViT.POSITIONS, ViT.HEAD):
        assert torch.allclose(seen.update.tensors[name], warm[name], atol=1e-3)
        assert not torch.allclose(warm[name], fresh[name], atol=0.1)


def test_the_server_is_told_how_warm_a_state_is_and_cannot_simulate_it(victim, pictures):
    subject = victim("vit_vanilla", depth=1)
    images, labels = pictures(4)
    earlier = images[1:], labels[1:]
    seen, secret = share(subject, images[:1], labels[:1], ThreatModel(**WARM), (0,), earlier)
    assert seen.protocol.warmup == 3
    verdict = Verdict(seen, generator("a"))
    assert not verdict.distance(secret.images, secret.labels).at_floor
    answer = FederatedAveraging(steps=2).reconstruct(seen, generator("a"), quiet)
    assert any("its simulation begins afresh" in one for one in answer.warnings)


def test_earlier_pictures_are_others_and_follow_the_seed():
    victims = Victims(CPU)

    def earlier(seed, number=3):
        setting = f"threat.warmup={number}", "threat.optimizer=adamw", "threat.wire=weights"
        first, second = jobs(*setting, images=2, seed=seed)
        own = torch.cat([victims.pictures(one, 32, 10)[0] for one in (first, second)])
        return own[:1], victims.earlier(first, 32, 10)[0], victims.earlier(second, 32, 10)[0]

    own, one, other = earlier(0)
    assert one.shape == (3, 3, 32, 32)
    assert not (one == own).flatten(1).all(1).any()
    assert not torch.equal(one, other)
    assert torch.equal(one, earlier(0)[1])
    assert not torch.equal(one, earlier(1)[1])


HELD = ThreatModel(batch_size=2, pictures=4, epochs=2, local_rate=0.05)


def rows(seed, epochs=2, pictures=4, size=2):
    """Return the client's own order, step by step."""
    order = generator("order", seed)
    found = [torch.randperm(pictures, generator=order).split(size) for _ in range(epochs)]
    return [part for epoch in found for part in epoch]


def test_epochs_are_those_of_torch_in_an_order_of_the_clients_own(victim, pictures):
    subject = victim("vit_vanilla", depth=1)
    images, labels = pictures(4)
    seen, _ = share(subject, images, labels, HELD, (0,))
    assert seen.shape[0] == 4
    assert seen.protocol.steps == 4
    steps = [(images[part], labels[part]) for part in rows(0)]
    update = seen.update.tensors
    assert apart(update, changed(subject.model.vit, torch.optim.SGD, steps, 0.05)) < 2e-3
    listed = [(images[part], labels[part]) for part in torch.arange(4).split(2) * 2]
    assert apart(update, changed(subject.model.vit, torch.optim.SGD, listed, 0.05)) > 2e-3


def test_every_epoch_and_every_client_has_another_order():
    one, other = (torch.stack(rows(seed, epochs=4, pictures=8)).view(4, 8) for seed in (0, 1))
    assert len({tuple(order) for order in [*one.tolist(), *other.tolist()]}) == 8


def test_labels_are_granted_in_the_order_of_the_pictures(victim, pictures):
    subject = victim("vit_vanilla", depth=1)
    images, labels = pictures(4)
    threat = ThreatModel(knows=frozenset({Knowledge.LABELS}), batch_size=2, pictures=4)
    seen, _ = share(subject, images, labels, threat, (0,))
    assert seen.labels is not None
    assert torch.equal(seen.labels, labels)


def test_each_step_draws_anew_and_the_secret_has_the_first_epochs_by_picture(victim, pictures):
    subject = victim("vit_mjp", depth=1)
    images, labels = pictures(4)
    seen, secret = share(subject, images, labels, HELD, (0,))
    assert isinstance(secret.draw, Draw)
    assert len({tuple(row) for row in secret.draw.mask.tolist()}) == 2  # one for each batch
    # patches are moved and nothing else: a picture keeps its pixels
    assert torch.equal(secret.fed.flatten(1).sort().values, images.flatten(1).sort().values)
    fed = subject.model.defense.feed(subject.model.vit, images, secret.draw)
    assert torch.equal(secret.fed, fed)
    assert mask(seen) is None


def test_at_a_small_rate_the_update_is_the_gradient_of_all_pictures(victim, pictures):
    subject = victim("vit_vanilla", depth=1)
    images, labels = pictures(4)
    whole, _ = share(subject, images, labels, ThreatModel(batch_size=4), (0,))
    threat = ThreatModel(pictures=4, epochs=3, local_rate=1e-6)
    seen, _ = share(subject, images, labels, threat, (0,))
    scaled = {name: seen.protocol.steps * t for name, t in whole.update.tensors.items()}
    assert apart(seen.update.tensors, scaled) < 1e-3


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_simulation_is_the_client_where_the_order_is_the_same(victim, pictures, optimizer):
    subject = victim("vit_vanilla", depth=1)
    images, labels = pictures(4)
    wire = "difference" if optimizer == "adamw" else "gradient"
    settings = {"optimizer": optimizer, "wire": wire, "local_rate": 1e-3}
    threat = ThreatModel(batch_size=2, pictures=4, **settings)
    seen, _ = share(subject, images, labels, threat, (0,))
    order = torch.cat(rows(0, epochs=1))
    local = LocalModel(subject.model.vit, subject.model.defense, seen.protocol)
    found = local.gradient(images[order], labels[order], differentiable=False)
    if optimizer == "adamw":  # whose decay stands in the update
        decay = 0.02
        for name, p in subject.model.vit.trained().items():
            found[name] = found[name] + decay * p.detach()
    for name in (ViT.PROJECTION, ViT.POSITIONS, ViT.HEAD):
        shared = seen.update.tensors[name]
        assert float((found[name] - shared).norm() / shared.norm()) < 0.02


def test_pictures_are_scored_in_the_best_order_and_their_tokens_are_counted():
    setting = "threat.pictures=4", "threat.epochs=2", "threat.local_rate=0.001"
    found = jobs(*setting, "model.patch_size=8", attack="pe_ls", images=8, batch_size=2)
    assert [job.case.images for job in found] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    case = found[0].case
    assert case.known == "knows nothing, batch 2, of 4 pictures, 2 epochs, local rate 0.001"
    assert case.threat["pictures"] == 4
    record, _ = run_case(found[0], Victims(CPU))
    assert record.error is None
    assert len(record.scores["psnr"]) == 4
    assert record.report["tokens"] == 4 * 17


EPOCHS, PICTURES = "threat.epochs=2", "threat.pictures=2"
WEIGHTS, STATE = "threat.wire=weights", "threat.warmup=2"


@pytest.mark.parametrize(
    ("settings", "sentence", "followed"),
    [
        ((WEIGHTS, STATE), "Add `--set threat.optimizer=adamw`", ("threat.optimizer=adamw",)),
        (("threat.pictures=1",), "Take `--set threat.pictures=2`", (PICTURES,)),
        ((PICTURES, "threat.local_steps=3"), "Say threat.epochs", ("threat.local_steps=1", EPOCHS)),
        ((EPOCHS,), "Add `--set threat.pictures=2`, or say threat.local_steps", (PICTURES,)),
        (("threat.pictures=4",), "a client with 4 pictures takes 4, and 2 pictures", (PICTURES,)),
        (("threat.pictures=-1",), "'pictures' cannot be -1", ("threat.pictures=0",)),
    ],
)
def test_what_cannot_be_is_a_sentence_and_what_it_says_helps(settings, sentence, followed):
    with pytest.raises(BadSetting) as caught:
        jobs(*settings, images=2)
    assert sentence in str(caught.value)
    assert jobs(*settings, *followed, images=2)


def test_a_warm_state_needs_other_pictures_than_the_cases():
    warm = ThreatModel(optimizer="adamw", wire="weights", warmup=2)
    with pytest.raises(BadSetting, match=r"and photos has 1 in all\. Take another --dataset"):
        refuse_alone(warm, 1, "photos")
    refuse_alone(warm, 2, "photos")
    refuse_alone(ThreatModel(), 1, "photos")


def test_an_attack_that_takes_one_batch_says_which_take_several():
    with pytest.raises(NotGranted, match=r"took 4 on several\. Choose peel, or leave"):
        jobs(PICTURES, EPOCHS, attack="unmix", images=2)
    assert jobs(PICTURES, EPOCHS, attack="peel", images=2)


def test_what_is_not_said_is_in_no_record():
    (plain,) = jobs(images=1)
    assert set(plain.case.threat) == {"knows", "batch_size"}
    assert Protocol().steps == 1
