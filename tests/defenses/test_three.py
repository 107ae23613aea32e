"""Three defenses of different kinds, each in one file that touches nothing else."""

import ast
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import cross_entropy, one_hot

import privbench.defenses
from privbench.attack import Attack
from privbench.client_step import ClientStep
from privbench.component import find, make
from privbench.defense import Defense
from privbench.errors import BadSetting
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import ThreatModel
from privbench.training import session
from privbench.victims.load import load
from tests.commands import caller
from tests.conftest import CPU, quiet
from tests.defenses.three import FOLDER, THREE

SMALL = {"depth": 1, "embed_dim": 16, "num_heads": 2}
WORDS = [word for key, value in SMALL.items() for word in ("--set", f"model.{key}={value}")]


@pytest.fixture(autouse=True)
def shelf(monkeypatch):
    """The shelf of defenses, and the three files on it."""
    monkeypatch.setattr(privbench.defenses, "__path__", [*privbench.defenses.__path__, FOLDER])


@pytest.fixture
def call(monkeypatch, capsys):
    return caller(monkeypatch, capsys)


def subject(name, model="vit_vanilla", dropout=0.0, **settings):
    defense = make(Defense, name, settings)
    return load(model, SMALL | {"dropout": dropout}, (defense,), "init", CPU)


def updates(victim, pictures, batch=3, seed=0, **threat):
    images, labels = pictures(batch)
    return share(victim, images, labels, ThreatModel(batch_size=batch, **threat), (seed,))


def far(one, two):
    """Largest distance of two sets of tensors, relative to the whole."""
    assert one.keys() == two.keys()
    whole = torch.cat([tensor.flatten() for tensor in two.values()]).norm()
    return max(float((one[name] - tensor).norm() / whole) for name, tensor in two.items())


@pytest.mark.parametrize("name", THREE)
def test_it_is_one_file_that_leans_on_the_extension_api_alone(name):
    path = Path(FOLDER) / f"{name}.py"
    assert find(Defense, name).__module__ == f"privbench.defenses.{name}"
    nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)]
    modules = {str(node.module) for node in nodes if str(node.module).startswith("privbench")}
    assert modules
    assert all(module.count(".") == 1 for module in modules)


@pytest.mark.parametrize(
    ("name", "attack"), [("clipped", "auto"), ("bottleneck", "gradinv"), ("mixed", "gradinv")]
)
def test_run_takes_it_unchanged(name, attack, call, tmp_path):
    code, printed, err = call(
        *("run", "--attack", f"pe_ls,{attack}", "--model", "vit_vanilla", "--defense", name),
        *("--weights", "init", "--images", "2", "--batch-size", "2", "--out", tmp_path, *WORDS),
        *("--set", "attack.tier=smoke" if attack == "auto" else "attack.steps=3"),
    )
    assert code == 0, err
    assert name in printed
    records = [json.loads(p.read_text()) for p in tmp_path.rglob("*.json")]
    assert [record["status"] for record in records] == ["done"] * 2


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Twenty training and ten test pictures, one flat color for each class."""
    folder = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 2), ("test", 1)):
        for label in range(10):
            place = folder / split / f"class{label}"
            place.mkdir(parents=True)
            for number in range(count):
                color = (25 * label, 255 - 25 * label, 60 * label % 256)
                Image.new("RGB", (32, 32), color).save(place / f"{number}.png")
    return folder


@pytest.mark.parametrize("name", [*THREE, "clip+noise"])
def test_train_measures_what_it_costs_and_the_card_names_it(name, root, call, tmp_path):
    train = ("train", "--model", "vit_mjp", "--dataset", "folder", "--data-root", root, *WORDS)
    short = ("--epochs", 2, "--set", "train.batch_size=8", "--set", "train.lr=0.01")
    found = []
    for defense in ("none", name):
        out = tmp_path / defense
        code, printed, err = call(*train, *short, "--defense", defense, "--out", out)
        assert code == 0, err
        assert ("--defense" in printed) is (defense != "none")
        found.append(json.loads((out / "vit_mjp.json").read_text()))
    plain, defended = found
    assert "defense" not in plain
    assert defended["defense"] == name
    assert f"--defense {name} --" in defended["command"]
    assert 0 <= defended["accuracy"] <= 1
    rows = [(tmp_path / one / "log.csv").read_text().splitlines()[-1] for one in ("none", name)]
    assert rows[0].split(",")[2] != rows[1].split(",")[2]
    # A checkpoint goes on with its own defense only.
    code, _, err = call(*train, *short, "--out", tmp_path / name)
    assert code == 2
    assert "belongs to a training with another defense" in err


def test_single_examples_are_not_split_among_processes(root, tmp_path, monkeypatch):
    check = session._check_defense
    monkeypatch.setattr(session, "_check_defense", lambda victim, _: check(victim, 2))
    settings = [f"model.{key}={value}" for key, value in SMALL.items()]
    given = ("vit_mjp", "folder", root, [*settings, "train.batch_size=8"])
    options = {"seed": 0, "device": "cpu", "out": tmp_path}
    with pytest.raises(BadSetting, match="Train it in one process"):
        session.begin(*given, **options, defense="clipped")
    assert session.begin(*given, **options, defense="noise").identity["defense"] == "noise"


@pytest.mark.parametrize("model", ["vit_vanilla", "vit_mjp"])
@pytest.mark.parametrize("norm", [0.01, 3.0, 1e3])
def test_clipped_is_a_loop_over_examples(model, norm, pictures):
    seen, secret = updates(subject("clipped", model, sigma=0, norm=norm), pictures)
    expected, public = {}, seen.model
    for row in range(3):
        draw = None if secret.draw is None else secret.draw.rows([row])
        picture, label = secret.images[[row]], secret.labels[[row]]
        one = public.gradient(picture, label, draw, differentiable=False)
        norms = torch.cat([tensor.flatten() for tensor in one.values()]).norm()
        for name, tensor in one.items():
            part = tensor * min(1.0, norm / float(norms)) / 3
            expected[name] = expected.get(name, 0) + part
    for name, tensor in public.penalty_gradient(secret.draw).items():
        expected[name] = expected[name] + tensor
    assert far(dict(seen.update.tensors), expected) < 1e-6


def test_clipping_examples_is_not_clipping_the_mean(pictures):
    each, _ = updates(subject("clipped", sigma=0, norm=0.5), pictures)
    mean, _ = updates(subject("clip", norm=0.5), pictures)
    assert far(dict(each.update.tensors), dict(mean.update.tensors)) > 0.01


def test_the_noise_has_the_stated_size_and_is_fresh_at_every_step(pictures):
    quiet_one, _ = updates(subject("clipped", sigma=0, norm=0.5), pictures)
    for seed in (0, 1):
        loud, _ = updates(subject("clipped", sigma=2, norm=0.5), pictures, seed=seed)
        pairs = loud.update.tensors.items()
        noise = torch.cat([(t - quiet_one.update.tensors[n]).flatten() for n, t in pairs])
        assert float(noise.std()) == pytest.approx(2 * 0.5 / 3, rel=0.03)
        assert abs(float(noise.mean())) < 0.02
    two, _ = updates(subject("clipped", sigma=2), pictures, local_steps=2, local_rate=1e-9)
    one, _ = updates(subject("clipped", sigma=2), pictures)
    rest = {n: t - one.update.tensors[n] for n, t in two.update.tensors.items()}
    assert far(rest, dict(one.update.tensors)) > 0.1, "two steps, two draws"


def test_examples_draw_their_dropout_one_by_one(pictures):
    victim = subject("clipped", sigma=0, norm=1e6, dropout=0.3)
    seen, secret = updates(victim, pictures, training=True)
    plain = victim.model.gradient(secret.images, secret.labels, differentiable=False)
    assert far(dict(seen.update.tensors), plain) > 0.01
    step = ClientStep(victim.model.vit, victim.model.defense)
    each, losses = step.each(secret.images, secret.labels)
    assert losses.shape == (3,)
    assert far({n: t.mean(0) for n, t in each.items()}, plain) < 1e-6


def test_the_bottleneck_is_drawn_by_the_client_and_silent_in_evaluation(pictures):
    victim = subject("bottleneck", beta=0)
    (seen, secret), (other, _) = (updates(victim, pictures, seed=seed) for seed in (0, 1))
    assert far(dict(seen.update.tensors), dict(other.update.tensors)) > 1e-3
    step = victim.model.gradient(secret.images, secret.labels, secret.draw, differentiable=False)
    assert far(dict(seen.update.tensors), step) == 0
    logits = victim.model.logits(secret.images)
    assert torch.equal(logits, victim.model.logits(secret.images))
    assert not torch.equal(logits, victim.model.logits(secret.images, secret.draw))


def test_the_term_is_the_divergence_from_a_normal_distribution(pictures):
    images, labels = pictures(3)
    free, weighed = (subject("bottleneck", beta=beta).model for beta in (0, 0.5))
    draw = free.simulate(3, generator("d"))
    with torch.no_grad():
        losses = [ClientStep(one.vit, one.defense)(images, labels, draw) for one in (free, weighed)]
    mean, spread = (losses[1][1].auxiliary[name] for name in ("mean", "spread"))
    apart = kl_divergence(Normal(mean, (spread / 2).exp()), Normal(0.0, 1.0)).sum(1).mean()
    assert float(losses[1][0] - losses[0][0]) == pytest.approx(0.5 * float(apart), rel=1e-4)


@pytest.mark.parametrize("restarts", [1, 9])
def test_an_attack_runs_the_step_with_randomness_of_its_own(restarts, pictures):
    seen, _ = updates(subject("bottleneck", "vit_mjp"), pictures, batch=1)
    answers = [
        make(Attack, "gradinv", {"steps": 2}).reconstruct_many(
            [seen] * restarts,
            [generator(seed, number) for number in range(restarts)],
            [quiet] * restarts,
        )[0]
        for seed in ("a", "b", "a")
    ]
    assert answers[0].objective == answers[2].objective
    assert answers[0].objective != answers[1].objective


def test_mixed_trains_on_mixtures_and_the_score_knows_the_input(pictures):
    victim = subject("mixed")
    seen, secret = updates(victim, pictures)
    draw = secret.draw
    assert draw is not None
    partner, share_ = draw.tensors()
    assert sorted(partner.tolist()) == [0, 1, 2]
    assert ((share_ >= 0.5) & (share_ <= 1)).all()
    hot = one_hot(secret.labels, 10).float()
    rows = list(enumerate(zip(share_, partner, strict=True)))
    images, labels = (
        torch.stack([s * pure[i] + (1 - s) * pure[p] for i, (s, p) in rows])
        for pure in (secret.images, hot)
    )
    assert torch.allclose(secret.fed, images)
    trained = victim.model.vit.trained()
    loss = cross_entropy(victim.model.vit(images), labels)
    truth = torch.autograd.grad(loss, list(trained.values()))
    assert far(dict(seen.update.tensors), dict(zip(trained, truth, strict=True))) < 1e-6


def test_mixed_keeps_its_pairs_together_or_refuses(pictures):
    draw = find(Defense, "mixed")().draw(subject("mixed").model.vit, 6, generator("m"))
    assert draw is not None
    same = draw.rows(range(6))
    assert torch.equal(same.tensors()[0], draw.tensors()[0])
    back = draw.rows([5, 4, 3, 2, 1, 0]).tensors()[0]
    assert torch.equal(5 - back.flip(0), draw.tensors()[0])
    with pytest.raises(BadSetting, match="Train in one process"):
        draw.rows([int((draw.tensors()[0] != torch.arange(6)).nonzero()[0])])
