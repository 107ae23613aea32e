"""No attack sees the truth: by construction, by lint contract, and by experiment."""

import ast
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from privbench.attack import Attack
from privbench.component import find, make, names
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import Knowledge, ThreatModel
from tests.conftest import cheap, demanded, quiet

ROOT = Path(__file__).parents[1]


def poison(secret):
    for tensor in (secret.images, secret.fed, secret.labels):
        tensor.fill_(-7)
    if secret.draw is not None:
        secret.draw.mask.logical_not_()
        secret.draw.order.zero_()


@pytest.mark.parametrize("name", names("attacks"))
@pytest.mark.parametrize("subject", ["vit_vanilla", "vit_mjp"])
def test_poisoning_the_truth_changes_no_answer(name, subject, victim, pictures):
    attack = make(Attack, name, cheap(find(Attack, name).setting_names()))
    answers = []
    for poisoned in (False, True):
        clean = victim(subject, **demanded(find(Attack, name)))
        images, labels = pictures(1, clean.model.vit.side)
        images, labels = images.clone(), labels.clone()
        sent = replace(clean, model=attack.tamper(clean.model, generator("tamper")))
        seen, secret = share(sent, images, labels, ThreatModel(), (0,))
        if poisoned:
            poison(secret)
            images.fill_(-7)
            labels.fill_(-7)
        answers.append(attack.reconstruct(seen, generator("attack"), quiet).images)
    assert torch.equal(*answers)


def test_the_observation_aliases_no_tensor_of_the_secret(victim, shared):
    seen, secret = shared(victim("vit_mjp"), 2, knows=frozenset(Knowledge))
    hidden = [secret.images, secret.fed, secret.labels, secret.draw.mask, secret.draw.order]
    visible = [*seen.update.tensors.values(), *seen.model.vit.state_dict().values(), seen.labels]
    places = {tensor.untyped_storage().data_ptr() for tensor in hidden}
    assert not places & {tensor.untyped_storage().data_ptr() for tensor in visible}


def test_the_update_carries_no_graph_back_to_the_pictures(victim, shared):
    seen, _ = shared(victim("vit_mjp"))
    assert all(not t.requires_grad and t.grad_fn is None for t in seen.update.tensors.values())


def test_ungranted_labels_are_not_there(victim, shared):
    seen, _ = shared(victim("vit_vanilla"))
    assert seen.labels is None


def test_the_dice_depend_on_the_seed_and_not_on_who_asks(victim, shared):
    _, one = shared(victim("vit_mjp"), seed=4)
    _, two = shared(victim("vit_mjp", "noise"), seed=4)
    _, other = shared(victim("vit_mjp"), seed=5)
    assert torch.equal(one.draw.order, two.draw.order)
    assert not torch.equal(one.draw.order, other.draw.order)


def knows_secret(text):
    """Whether a source imports the secret's class, or names it in any way."""
    for node in ast.walk(ast.parse(text)):
        words = {
            *([node.id] if isinstance(node, ast.Name) else ()),
            *([node.attr] if isinstance(node, ast.Attribute) else ()),
            *([node.name.rpartition(".")[2]] if isinstance(node, ast.alias) else ()),
            *([node.value] if isinstance(node, ast.Constant) else ()),
        }
        if "Secret" in words:
            return True
    return False


@pytest.mark.parametrize(
    "line",
    [
        "from privbench.threat import Secret",
        "from privbench.threat import Secret as S",
        "import privbench.threat as t; t.Secret",
        "from privbench import threat; isinstance(x, threat.Secret)",
        "getattr(threat, 'Secret')",
        "x: Secret",
    ],
)
def test_the_search_for_the_secret_finds_it_under_every_name(line):
    assert knows_secret(line)
    assert not knows_secret(line.replace("Secret", "Update"))


def test_only_client_attempt_and_checks_know_what_a_secret_is():
    running = ROOT / "privbench" / "running"
    allowed = {running / f"{name}.py" for name in ("attempt", "client", "checks")}
    paths = [
        path
        for folder in ("privbench", "attacks", "defenses")
        for path in (ROOT / folder).rglob("*.py")
        if path != ROOT / "privbench" / "threat.py" and path not in allowed
    ]
    assert len(paths) > 100
    assert [path for path in paths if knows_secret(path.read_text())] == []
    assert all(knows_secret(path.read_text()) for path in allowed)


WALL = "An attack imports the extension API and its own shelf"


@pytest.mark.parametrize(
    ("line", "contract"),
    [
        ("from privbench.metrics import psnr", WALL),
        (
            "from privbench.running.client import share",
            WALL,
        ),
        ("import privbench.running.runner", WALL),
        ("from privbench.defenses import mjp", WALL),
    ],
)
def test_an_attack_that_looks_behind_the_wall_breaks_the_contract(tmp_path, line, contract):
    copy = tmp_path / "privbench"
    shutil.copytree(
        ROOT / "privbench", copy, ignore=shutil.ignore_patterns("__pycache__", "assets")
    )
    shutil.copytree(ROOT / "privbench/assets", copy / "assets", ignore=lambda *_: ["weights"])
    cheat = copy / "attacks/mean.py"
    cheat.write_text(f"{line}\n{cheat.read_text()}")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    command = (
        "import sys; sys.path.insert(0, '.'); "
        "from importlinter.cli import lint_imports_command as run; run()"
    )
    result = subprocess.run(
        [sys.executable, "-c", command, "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{contract} BROKEN" in " ".join(result.stdout.split())
