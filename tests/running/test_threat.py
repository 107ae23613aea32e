"""Threat models: clients that take local steps or drop activations, and records that say so."""

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from privbench.attack import Attack
from privbench.component import make
from privbench.errors import BadSetting, BadUpdate, NotGranted
from privbench.metrics.psnr import PSNR
from privbench.running.attempt import attack_of, run_case
from privbench.running.client import share
from privbench.running.plan import plan, threat_facts
from privbench.running.suite import Suite
from privbench.running.victims import Victims
from privbench.seeds import generator
from privbench.threat import Protocol, Reconstruction, ThreatModel
from privbench.variants import Dropout, drop_by, dropouts
from privbench.vit import ViT
from tests.conftest import CPU, psnr, quiet


def jobs(*settings, **options):
    given = {"attack": "pe_ls", "model": "vit_vanilla", "weights": "init"} | options
    return plan(Suite.build({**given, "set": list(settings)}, None), CPU)


def test_defaults_are_a_plain_gradient_and_leave_records_as_they_were(victim, shared):
    assert threat_facts(ThreatModel()) == {"knows": [], "batch_size": 1}
    subject = victim("vit_vanilla")
    seen, secret = shared(subject)
    loss = cross_entropy(subject.model.vit(secret.images), secret.labels)
    trained = subject.model.vit.trained()
    expected = torch.autograd.grad(loss, list(trained.values()))
    for name, slope in zip(trained, expected, strict=True):
        assert torch.equal(seen.update.tensors[name], slope)
    assert not {"dropout", "first_block"} & set(subject.settings)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_local_steps_are_those_of_torch_sgd(victim, shared, momentum):
    subject = victim("vit_vanilla")
    seen, secret = shared(subject, 2, local_steps=3, local_rate=0.1, momentum=momentum)
    model = copy.deepcopy(subject.model.vit).double()
    before = {name: p.detach().clone() for name, p in model.trained().items()}
    optimizer = torch.optim.SGD(model.trained().values(), lr=0.1, momentum=momentum)
    for _ in range(3):
        optimizer.zero_grad()
        cross_entropy(model(secret.images.double()), secret.labels).backward()
        optimizer.step()
    for name, p in model.trained().items():
        change = (before[name] - p.detach()) / 0.1
        assert (seen.update.tensors[name] - change).norm() <= 1e-4 * change.norm() + 1e-9


def test_a_client_leaves_the_model_and_the_global_generator_alone(victim, shared):
    subject = victim("vit_mjp", dropout=0.1)
    weights = copy.deepcopy(subject.model.vit.state_dict())
    state = torch.get_rng_state()
    shared(subject, local_steps=2, training=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(t, weights[n]) for n, t in subject.model.vit.state_dict().items())
    assert not subject.model.vit.training
    assert all(one.masks is None for one in dropouts(subject.model.vit).values())


def test_dropout_acts_in_training_mode_only_and_follows_the_seed(victim, shared):
    plain, dropping = victim("vit_vanilla"), victim("vit_vanilla", dropout=0.2)
    expected = shared(plain)[0].update.tensors[ViT.PROJECTION]
    idle = shared(dropping)[0].update.tensors[ViT.PROJECTION]
    assert torch.equal(idle, expected)
    one, same, other = (
        shared(dropping, training=True, seed=seed)[0].update.tensors[ViT.PROJECTION]
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one, expected)


def test_clients_in_threads_share_a_model_without_a_trace(victim, pictures):
    subject = victim("vit_vanilla", dropout=0.2)
    images, labels = pictures(1)

    def update(number):
        training = ThreatModel(training=number % 2 == 0)
        return share(subject, images, labels, training, (number // 2,))[0].update.tensors

    alone = [update(number) for number in range(6)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(update, range(6)))
    for one, two in zip(alone, together, strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_dropout_keeps_the_mean_and_the_rate(victim):
    vit = victim("vit_vanilla", dropout=0.25).model.vit
    names = dropouts(vit)
    assert len(names) == 1 + 2 * 4  # positions; attention, projection and two of the MLP
    assert all(one.p == 0.25 for one in names.values())
    assert not isinstance(vit.backbone.head_drop, Dropout)
    copied = copy.deepcopy(vit)
    drop_by(copied, generator("a"), CPU)
    ones = copied.backbone.pos_drop(torch.ones(1, 500, 100))
    assert float(ones.mean()) == pytest.approx(1, abs=0.01)
    assert float((ones == 0).float().mean()) == pytest.approx(0.25, abs=0.01)


def test_without_masks_dropout_is_that_of_torch():
    own, theirs = Dropout(0.3).train(), nn.Dropout(0.3).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        one = own(torch.ones(100))
        torch.manual_seed(0)
        assert torch.equal(one, theirs(torch.ones(100)))


def test_divergence_is_a_sentence(victim, shared):
    with pytest.raises(BadUpdate, match="3 local steps diverged"):
        shared(victim("vit_vanilla"), local_steps=3, local_rate=1e30)


@pytest.mark.parametrize(("training", "dropout", "least"), [(False, 0.0, 60), (True, 0.1, 60)])
def test_closed_form_survives_local_steps_and_dropout(victim, shared, training, dropout, least):
    subject = victim("vit_vanilla", depth=4, dropout=dropout)
    seen, secret = shared(subject, local_steps=5, momentum=0.9, training=training)
    answer = make(Attack, "pe_ls", {}).reconstruct(seen, generator("a"), quiet)
    assert psnr(answer.images, secret.fed) > least


def test_the_protocol_is_public_and_the_server_is_not_in_it(victim, shared):
    seen, _ = shared(victim("vit_vanilla"), local_steps=2, server="malicious")
    assert seen.protocol == Protocol(local_steps=2)


def test_a_threat_model_is_words_in_tables_and_part_of_the_key():
    (plain,) = jobs(images=1)
    train = "threat.training=true", "model.dropout=0.1"
    (busy,) = jobs("threat.local_steps=5", "threat.momentum=0.9", *train, images=1)
    assert plain.case.known == "knows nothing, batch 1"
    assert busy.case.known == ("knows nothing, batch 1, 5 local steps, momentum 0.9, training mode")
    hostile_server = "threat.server=malicious", "threat.knows=labels"
    (hostile,) = jobs(*hostile_server, attack="imprint", images=1)
    assert hostile.case.known == "knows labels, batch 1, malicious server"
    assert len({plain.case.key, busy.case.key, hostile.case.key}) == 3


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("threat.local_steps=0", "'local_steps' cannot be 0"),
        ("threat.local_steps=2.5", "'local_steps' cannot be 2.5"),
        ("threat.local_rate=0", "'local_rate' cannot be 0"),
        ("threat.momentum=1", "'momentum' cannot be 1"),
        ("threat.momentum=0.5", "one local step shares the gradient itself, whatever momentum"),
        ("threat.server=evil", "'server' cannot be 'evil': input should be 'honest' or 'malic"),
        ("threat.training=often", "'training' cannot be 'often'"),
        ("model.dropout=1", "dropout is a rate from 0 to below 1, not 1."),
        ("model.dropout=x", "dropout is a rate from 0 to below 1, not 'x'."),
        ("model.first_block=bare", "first_block is plain or april, not 'bare'."),
    ],
)
def test_nonsense_is_a_sentence(setting, sentence):
    with pytest.raises(BadSetting) as caught:
        jobs(setting, images=1)
    assert sentence in str(caught.value)


def test_defaults_said_aloud_change_no_record():
    (silent,) = jobs(images=1)
    (aloud,) = jobs(
        "model.dropout=0.0", "model.first_block=plain", "threat.training=false", images=1
    )
    assert silent.case == aloud.case


AXES = {
    "knows": "threat.knows=labels",
    "batch_size": "",
    "server": "threat.server=malicious",
    "local_steps": "threat.local_steps=2",
    "local_rate": "threat.local_rate=0.5",
    "momentum": "threat.momentum=0.5",
    "training": "threat.training=true",
    "rounds": "threat.rounds=2",
    "wire": "threat.wire=weights",
    "precision": "threat.precision=bfloat16",
    "optimizer": "threat.optimizer=adamw",
    "clients": "threat.clients=2",
    "warmup": "threat.warmup=2",
    "pictures": "threat.pictures=2",
    "epochs": "threat.epochs=2",
}


def received(job, threat):
    """Return all that an attack gets under a threat model, and whether the weights are honest."""
    victims = Victims(CPU)
    subject = victims.get(job.recipe)
    images, labels = victims.pictures(job, subject.model.vit.side, subject.model.vit.classes)
    sent = subject.model
    if threat.server == "malicious":
        sent = attack_of(job).tamper(sent, generator("tamper", *job.seed))
    size = threat.held
    seen, _ = share(replace(subject, model=sent), images[:size], labels[:size], threat, job.seed)
    updates = [update.tensors for update in (seen.update, *seen.later)]
    return [str(seen.labels), seen.shape, sent is subject.model, len(updates)], updates


def differ(one, other):
    pairs = zip(one[1], other[1], strict=False)
    return one[0] != other[0] or any(not torch.equal(a[n], b[n]) for a, b in pairs for n in a)


@pytest.mark.parametrize("axis", [one.name for one in fields(ThreatModel)])
@pytest.mark.parametrize("attack", ["mean", "pe_ls", "imprint"])
@pytest.mark.parametrize("more", [(), ("model.dropout=0.2",), ("threat.local_steps=3",)])
def test_a_setting_changes_what_an_attack_gets_or_is_refused(axis, attack, more):
    options = {"attack": attack, "images": 2 if axis in ("batch_size", "pictures") else 1}
    options["batch_size"] = 2 if axis == "batch_size" else 1
    given = [one for one in ("model.depth=2", *more, AXES[axis]) if one]
    try:
        (job,) = jobs(*given, **options)
    except (BadSetting, NotGranted):
        return
    assert job.refusal is None
    without = replace(job.threat, **{axis: getattr(ThreatModel(), axis)})
    assert differ(received(job, job.threat), received(job, without))


def test_an_honest_attack_beside_a_malicious_one_is_a_refused_row():
    found = jobs("threat.server=malicious", attack="imprint,pe_ls", images=1)
    refusals = {job.case.attack.name: job.refusal for job in found}
    assert refusals["imprint"] is None
    assert "choose fishing or imprint" in str(refusals["pe_ls"])


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("threat.server=malicious", "sends the client no weights of its own"),
        ("threat.training=true", "this model drops none. Add `--set model.dropout=0.1`"),
        ("model.dropout=0.1", "Add `--set threat.training=true`"),
    ],
)
def test_what_nothing_heeds_is_refused(setting, sentence):
    with pytest.raises(NotGranted) as caught:
        jobs(setting, images=1)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(("attack", "noted"), [("pe_ls", True), ("rounds", False)])
def test_an_attack_that_reads_one_of_several_rounds_says_so(attack, noted):
    (job,) = jobs("threat.rounds=3", "model.depth=1", attack=attack, images=1)
    record, _ = run_case(job, Victims(CPU))
    assert record.status == "done"
    assert ("This attack reads the first of 3 updates only." in record.warnings) == noted


def broken(**changes):
    """Return an attack that answers with the mean color, but for these fields."""

    def reconstruct(self, seen, rng, tick):
        answer = Reconstruction(seen.model.vit.mean.expand(seen.shape).clamp(0, 1).clone(), 0.0)
        return replace(answer, **{k: v(answer) for k, v in changes.items()})

    return reconstruct


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("field", ["images", "objective", "members", "metric", "update"])
def test_a_number_that_is_none_makes_a_failed_row_with_a_reason(monkeypatch, field, bad):
    def spoiled(answer):
        images = answer.images.clone()
        images[0, 1, 5, 7] = bad
        return images

    changes = {
        "images": {"images": spoiled},
        "objective": {"objective": lambda _: bad},
        "members": {"members": lambda answer: {"one": spoiled(answer)}},
    }
    (job,) = jobs("model.depth=1", attack="mean", images=1)
    kind = type(attack_of(job))
    monkeypatch.setattr(kind, "reconstruct", broken(**changes.get(field, {})))
    if field == "metric":
        monkeypatch.setattr(PSNR, "score", lambda *_: torch.tensor([bad]))
    victims = Victims(CPU)
    if field == "update":
        victims.get(job.recipe).model.vit.get_parameter(ViT.PROJECTION).data[0, 0, 0, 0] = bad
    record, _ = run_case(job, victims)
    assert record.status == "failed"
    assert "NaN" in str(record.error) or str(bad) in str(record.error)
    assert not record.scores
