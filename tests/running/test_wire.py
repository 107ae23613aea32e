"""What leaves a client: gradients, weights or differences, rounded, of SGD or AdamW, of several."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from privbench.attack import Attack
from privbench.attacks._auto.verdict import Verdict
from privbench.attacks._matching.local import LocalModel
from privbench.attacks._update.wire import as_gradient, errors
from privbench.component import make, names
from privbench.defense import Defense
from privbench.errors import BadSetting, NotGranted
from privbench.running.attempt import run_case
from privbench.running.client import share
from privbench.running.plan import plan, threat_facts
from privbench.running.suite import Suite
from privbench.running.victims import Victims
from privbench.seeds import generator
from privbench.threat import Draw, ThreatModel
from privbench.victims.load import load
from privbench.vit import ViT
from privbench.wire import FORMATS, ulp
from tests.conftest import CPU, cheap, psnr, quiet

WIRES = {
    "weights": {"wire": "weights", "local_rate": 0.01},
    "bfloat16 weights": {"wire": "weights", "precision": "bfloat16", "local_rate": 0.1},
    "float16 gradient": {"precision": "float16"},
    "difference": {"wire": "difference", "precision": "bfloat16", "local_rate": 0.01},
}
AXES = {
    **WIRES,
    "adamw": {"wire": "weights", "optimizer": "adamw", "local_rate": 0.01},
    "adamw steps": {"wire": "difference", "optimizer": "adamw", "local_steps": 2},
    "adamw warm": {"wire": "weights", "optimizer": "adamw", "local_rate": 0.01, "warmup": 2},
    "clients": {"clients": 2},
    "pictures": {"wire": "weights", "pictures": 2, "epochs": 2, "local_rate": 0.01},
}


TINY = ("model.depth=1", "model.patch_size=8", "model.embed_dim=64", "model.num_heads=2")


def jobs(*settings, **options):
    given = {"attack": "pe_ls", "model": "vit_vanilla", "weights": "init"} | options
    return plan(Suite.build({**given, "set": list(settings)}, None), CPU)


@pytest.mark.parametrize("precision", list(FORMATS))
def test_a_step_of_a_format_is_the_distance_to_its_next_number(precision):
    kind = FORMATS[precision]
    spread = torch.cat([torch.zeros(1), torch.logspace(-6, 4, 101, base=10)]).to(kind)
    further = (
        torch.nextafter(spread.float(), torch.tensor(torch.inf))
        if kind == torch.float32
        else ((spread.view(torch.int16) + 1).view(kind).float())
    )
    assert torch.equal(ulp(spread.float(), kind), further.double() - spread.double())


def test_the_wire_is_no_part_of_an_old_record():
    assert threat_facts(ThreatModel()) == {"knows": [], "batch_size": 1}


@pytest.mark.parametrize("axis", WIRES)
def test_errors_of_the_wire_are_as_large_as_told(victim, shared, axis):
    subject = victim("vit_vanilla", depth=1)
    exact, _ = shared(subject)
    seen, _ = shared(subject, **WIRES[axis])
    told = errors(seen)
    assert told.keys() == seen.update.tensors.keys()
    for name in (ViT.PROJECTION, "backbone.blocks.0.mlp.fc1.weight"):
        wrong = (seen.update.tensors[name] - exact.update.tensors[name]).double()
        known = told[name]
        assert float(wrong.square().mean().sqrt() / known.square().mean().sqrt()) == pytest.approx(
            1, abs=0.1
        )
        assert (wrong.abs() <= 3**0.5 * 1.01 * known).double().mean() > 0.97


def test_new_weights_are_those_of_torch(victim, shared):
    """Weights travel as bfloat16; what the server reads gives them back, bit by bit."""
    subject = victim("vit_vanilla", depth=1)
    seen, secret = shared(subject, wire="weights", precision="bfloat16", local_rate=0.1)
    model = copy.deepcopy(subject.model.vit)
    before = {name: p.detach().clone().double() for name, p in model.trained().items()}
    cross_entropy(model(secret.images), secret.labels).backward()
    torch.optim.SGD(model.trained().values(), lr=0.1).step()
    for name, p in model.trained().items():
        after = before[name] - 0.1 * seen.update.tensors[name].double()
        same = after.to(torch.bfloat16) == p.detach().to(torch.bfloat16)
        assert (~same).double().mean() < 1e-3, name  # where an ulp decides which way to round


@pytest.mark.parametrize("steps", [1, 3])
def test_adamw_is_that_of_torch_and_the_simulated_one_is_alike(victim, shared, steps):
    subject = victim("vit_vanilla", depth=1)
    settings = {"wire": "difference", "optimizer": "adamw", "local_rate": 1e-3}
    seen, secret = shared(subject, local_steps=steps, **settings)
    model = copy.deepcopy(subject.model.vit)
    before = {name: p.detach().clone() for name, p in model.trained().items()}
    optimizer = torch.optim.AdamW(model.trained().values(), lr=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(model(secret.images), secret.labels).backward()
        optimizer.step()
    local = LocalModel(subject.model.vit, subject.model.defense, seen.protocol)
    simulated = local.gradient(secret.images, secret.labels, differentiable=False)
    for name in (ViT.PROJECTION, ViT.POSITIONS, ViT.HEAD):
        change = (before[name] - model.get_parameter(name).detach()) / 1e-3
        assert torch.allclose(seen.update.tensors[name], change, atol=1e-4)
        own = simulated[name] + 0.01 * steps * before[name]
        assert float((own - change).norm() / change.norm()) < 0.02


def test_the_first_adamw_step_gives_its_gradient_back(victim, shared):
    subject = victim("vit_vanilla", depth=1)
    exact, _ = shared(subject)
    settings = {"wire": "weights", "optimizer": "adamw", "local_rate": 0.1}
    seen, _ = shared(subject, **settings)
    found, doubts = as_gradient(seen)[ViT.POSITIONS], errors(seen)[ViT.POSITIONS]
    truth = exact.update.tensors[ViT.POSITIONS]
    small = truth.abs() < 1e-4
    assert small.double().mean() > 0.1
    assert float((found - truth)[small].norm() / truth[small].norm()) < 0.1
    within = ((found - truth).double().abs() < 5 * doubts + 1e-9)[small]
    assert within.double().mean() > 0.95


@pytest.mark.parametrize("rate", [1e-3, 1e-4])
def test_pe_ls_weighs_what_the_wire_rounded(pictures, monkeypatch, rate):
    """On trained weights, of many sizes; else all errors count alike."""
    subject = load("vit_vanilla", {}, (make(Defense, "none", {}),), "trained", CPU)
    images, labels = (one[2:3] for one in pictures(3))
    seen, secret = share(
        subject, images, labels, ThreatModel(wire="weights", local_rate=rate), (0,)
    )
    pe_ls = make(Attack, "pe_ls", {})
    found = psnr(pe_ls.reconstruct(seen, generator("a"), quiet).images, secret.images)
    monkeypatch.setattr("privbench.attacks._update.stated.errors", lambda _: {})
    blind = psnr(pe_ls.reconstruct(seen, generator("a"), quiet).images, secret.images)
    assert found > blind + 5


@pytest.mark.parametrize("axis", ["bfloat16 gradient", "float16 gradient", "weights"])
@pytest.mark.parametrize(
    ("defense", "settings"), [("noise", {}), ("quantize", {"bits": 8}), ("prune", {})]
)
def test_what_the_wire_rounds_hides_no_more_of_a_defended_update(pictures, defense, settings, axis):
    """Its steps are far below the defense's errors, which count as well."""
    subject = load("vit_vanilla", {}, (make(Defense, defense, settings),), "trained", CPU)
    images, labels = (one[1:2] for one in pictures(2))
    found = []
    for wire in ({}, {"bfloat16 gradient": {"precision": "bfloat16"}, **WIRES}[axis]):
        seen, secret = share(subject, images, labels, ThreatModel(**wire), (0,))
        answer = make(Attack, "pe_ls", {}).reconstruct(seen, generator("a"), quiet)
        found.append(psnr(answer.images, secret.images))
    assert found[1] == pytest.approx(found[0], abs=0.5)


@pytest.mark.parametrize("axis", [one for one in AXES if one not in ("adamw warm", "pictures")])
def test_the_right_picture_stands_at_the_floor_and_another_does_not(victim, shared, axis):
    subject = victim("vit_vanilla", depth=1)
    batch = AXES[axis].get("clients", 1)
    seen, secret = shared(subject, batch, **AXES[axis])
    verdict = Verdict(seen, generator("a"))
    assert verdict.distance(secret.images, secret.labels).at_floor
    assert not verdict.distance(1 - secret.images, secret.labels).at_floor


def test_several_batches_stand_at_the_floor_in_the_order_of_the_client(victim, pictures):
    subject = victim("vit_vanilla", depth=1)
    images, labels = pictures(2)
    threat = ThreatModel(**AXES["pictures"] | {"epochs": 1})
    seen, _ = share(subject, images, labels, threat, (0,))
    verdict = Verdict(seen, generator("a"))
    both = [verdict.distance(images[list(o)], labels[list(o)]) for o in ((0, 1), (1, 0))]
    assert [one.at_floor for one in both].count(True) == 1


def test_clients_share_the_mean_of_what_each_would(victim, pictures):
    subject = victim("vit_mjp", depth=1)
    images, labels = pictures(4)
    together, secret = share(subject, images, labels, ThreatModel(batch_size=2, clients=2), (0,))
    one, first = share(subject, images[:2], labels[:2], ThreatModel(batch_size=2), (0,))
    assert together.shape[0] == 4
    assert isinstance(secret.draw, Draw)
    assert isinstance(first.draw, Draw)
    assert torch.equal(secret.draw.mask[:2], first.draw.mask)
    assert not torch.equal(secret.draw.mask[:2], secret.draw.mask[2:])
    assert torch.equal(secret.fed[:2], first.fed)
    other = {n: 2 * t - one.update.tensors[n] for n, t in together.update.tensors.items()}
    slopes = subject.model.gradient(images[2:], labels[2:], secret.draw.rows([2, 3]))
    added = subject.model.penalty_gradient(secret.draw.rows([2, 3]))
    for name in (ViT.PROJECTION, ViT.POSITIONS):
        expected = (slopes[name] + added.get(name, 0)).detach()
        assert torch.allclose(other[name], expected, atol=1e-5)


def test_a_case_of_several_clients_has_their_pictures_and_says_its_tokens():
    (job,) = jobs("threat.clients=2", "model.depth=1", images=2)
    assert job.case.images == (0, 1)
    assert job.case.known == "knows nothing, batch 1, mean of 2 clients"
    record, _ = run_case(job, Victims(CPU))
    assert record.report["tokens"] == 2 * 65


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (("threat.optimizer=adamw",), "AdamW changes weights"),
        (("threat.optimizer=adamw", "threat.wire=weights", "threat.momentum=0.9"), "momentum"),
        (("threat.clients=3",), "3 clients with 1 pictures"),
        (("threat.wire=carrier",), "'wire' cannot be"),
    ],
)
def test_what_cannot_be_is_a_sentence(settings, reason):
    with pytest.raises(BadSetting, match=reason):
        jobs(*settings, images=2)


def product():
    """Every attack on every axis; in the plain run on one each, in turn, and `auto` on all."""
    for i, name in enumerate(names("attacks")):
        for j, axis in enumerate(AXES):
            plain = name == "auto" or i % len(AXES) == j
            yield pytest.param(name, axis, marks=() if plain else pytest.mark.slow)


@pytest.mark.parametrize(("name", "axis"), list(product()))
def test_every_attack_works_or_refuses_in_a_sentence(name, axis):
    kind = make(Attack, name, {})
    threat = {"server": "malicious"} if kind.malicious else {}
    set_ = [f"threat.{key}={value}" for key, value in (threat | AXES[axis]).items()]
    set_ += [f"attack.{key}={value}" for key, value in cheap(list(kind.setting_names())).items()]
    set_ += [f"model.{key}={value}" for key, value in kind.demands.items()]
    given = {"attack": name, "images": AXES[axis].get("clients", AXES[axis].get("pictures", 1))}
    try:
        (job,) = jobs(*set_, *TINY, "threat.knows=labels", **given)
    except NotGranted:  # a sentence, as tests/advice demands of all of them
        return
    record, _ = run_case(job, Victims(CPU))
    assert record.error is None or record.error.split(":")[0] in (
        "BadUpdate",
        "NotGranted",
        "UnsupportedModel",
        "BadSetting",
    ), record.error
