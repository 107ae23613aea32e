"""The commands about victims: weights that come along, weights from elsewhere, studies."""

import json

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from privbench.cli import show as sheet
from privbench.training.checkpoint import write_tensors
from privbench.victims import cards, weights
from privbench.victims import load as victim
from privbench.victims.load import load
from tests.commands import Call, caller

CPU = torch.device("cpu")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


@pytest.fixture
def along(tmp_path, monkeypatch):
    """Weights of another seed that come along with vit_mjp, and with nobody else."""
    path = tmp_path / "vit_mjp.safetensors"
    other = load("vit_mjp", {"init_seed": 7}, (), "init", CPU).model.vit.state_dict()
    text = json.dumps({"accuracy": 0.125, "command": "privbench train --model vit_mjp"})
    write_tensors(path, {name: t.half() for name, t in other.items()}, {"card": text})

    def bundled(name):
        return path if name == "vit_mjp" else None

    for module in (cards, sheet, victim, weights):
        monkeypatch.setattr(module, "bundled", bundled)
    return path


def test_weights_that_come_along_are_the_default(along):
    assert load("vit_mjp", {}, (), None, CPU).weights == "trained"
    assert load("vit_mjp", {"ratio": 0.5}, (), None, CPU).weights == "trained"
    assert load("vit_vanilla", {}, (), None, CPU).weights == "init"
    assert load("vit_mjp", {}, (), "init", CPU).weights == "init"
    found = load("vit_mjp", {}, (), None, CPU).model.vit.state_dict()
    assert torch.equal(found["unknown_embed"].half(), load_file(along)["unknown_embed"])


@pytest.mark.parametrize("change", [{"depth": 2}, {"init_seed": 1}, {"position_std": 1.0}])
def test_another_architecture_or_start_has_no_weights_that_come_along(along, change):
    assert load("vit_mjp", change, (), None, CPU).weights == "init"


def test_show_prints_the_card(along, call):
    code, out, _ = call("show", "vit_mjp")
    assert code == 0
    assert "Weights that come along: vit_mjp.safetensors" in out
    assert "0.125" in out
    code, out, _ = call("show", "vit_vanilla")
    assert "come along" not in out


def test_run_and_eval_name_the_weights_they_took(along, call, tmp_path):
    victims = ["--model", "vit_mjp,vit_vanilla", "--images", "1"]
    code, _, err = call("run", "--attack", "mean", *victims, "--out", tmp_path)
    assert code == 0, err
    table = pd.read_csv(tmp_path / "leaderboard.csv").set_index("model")
    assert table["weights"].to_dict() == {"vit_mjp": "trained", "vit_vanilla": "init"}
    code, _, err = call("eval", *victims, "--eval", "accuracy", "--out", tmp_path)
    assert code == 0, err
    table = pd.read_csv(tmp_path / "accuracy.csv").set_index("model")
    assert table["weights"].to_dict() == {"vit_mjp": "trained", "vit_vanilla": "init"}


def test_a_foreign_checkpoint_is_taken_over_and_run_takes_it(call, tmp_path):
    tiny = {"depth": 1, "embed_dim": 16, "num_heads": 2}
    state = load("vit_vanilla", tiny, (), "init", CPU).model.vit.backbone.state_dict()
    torch.save({"model": state, "epoch": 3}, tmp_path / "theirs.pth")
    settings = [word for k, v in tiny.items() for word in ("--set", f"model.{k}={v}")]
    ours = tmp_path / "ours.safetensors"
    target = ["--model", "vit_vanilla", "--out", ours, *settings]
    code, out, err = call("import-weights", tmp_path / "theirs.pth", *target)
    assert code == 0, err
    assert "Read as timm" in out
    assert ours.with_suffix(".json").is_file()
    code, _, err = call(
        *("run", "--attack", "mean", "--model", "vit_vanilla", "--images", "1"),
        *("--weights", ours, *settings, "--out", tmp_path / "results"),
    )
    assert code == 0, err


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["missing.pth", "--model", "vit_mjp"], "missing.pth"),
        (["missing.pth", "--model", "vit_mpj"], "Did you mean 'vit_mjp'?"),
        (["missing.pth", "--model", "vit_mjp", "--set", "model.dept=1"], "Did you mean 'depth'?"),
    ],
)
def test_a_wrong_import_is_answered_in_a_sentence(call, tmp_path, monkeypatch, arguments, answer):
    monkeypatch.chdir(tmp_path)
    code, _, err = call("import-weights", *arguments)
    assert code == 2
    assert answer in err
    assert not list(tmp_path.iterdir())


def test_the_position_study_writes_table_and_figure(call, tmp_path):
    code, out, err = call(
        *("study", "pe", "--model", "vit_mjp", "--weights", "init", "--out", tmp_path),
        *("--set", "model.depth=1", "--set", "model.embed_dim=16", "--set", "model.img_size=16"),
    )
    assert code == 0, err
    table = pd.read_csv(tmp_path / "study" / "pe.csv")
    names = "vit_mjp(depth=1, embed_dim=16, img_size=16)", "random normal", "2-D sin-cos"
    assert tuple(table["model"]) == names
    assert (tmp_path / "study" / "pe.png").read_bytes().startswith(b"\x89PNG")
    assert "random normal" in out


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["--model", "vit_mpj"], "Did you mean 'vit_mjp'?"),
        (["--model", "vit_mjp", "--set", "model.nix=1"], "No setting of model is called 'nix'"),
    ],
)
def test_a_wrong_study_is_answered_in_a_sentence(call, tmp_path, arguments, answer):
    code, _, err = call("study", "pe", *arguments, "--out", tmp_path)
    assert code == 2
    assert answer in err
    assert not list(tmp_path.iterdir())
