"""Whatever is wrong with an audit's input is said in a sentence; nothing is guessed in silence."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from privbench.auditing.audit import audit
from privbench.errors import PrivbenchError
from tests.audit import plain
from tests.commands import Call, caller

NAME = f"timm:{plain.MODEL}"
SIZES = [word for key, one in plain.SIZE.items() for word in ("--set", f"model.{key}={one}")]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Weights before and after, and what may go wrong with them."""
    folder = tmp_path_factory.mktemp("audit")
    net = plain.network()
    before, after = dict(net.state_dict()), plain.step(net)
    torch.manual_seed(2)
    other = plain.timm.create_model("deit_tiny_distilled_patch16_224", num_classes=10, img_size=32)
    torch.manual_seed(3)
    twin = plain.timm.create_model(plain.MODEL, **plain.SIZE)
    broken = after | {"norm.bias": after["norm.bias"] * float("nan")}
    whole = after | {"norm.bias": after["norm.bias"].to(torch.int8)}
    states = {"before": before, "after": after, "broken": broken, "whole": whole}
    states |= {"other": dict(other.state_dict()), "twin": dict(twin.state_dict())}
    for name, state in states.items():
        plain.save(state, folder / f"{name}.safetensors")
    arrays = [one.numpy() for one in after.values()]
    np.savez(folder / "sorted.npz", *[after[key].numpy() for key in sorted(after)])
    np.savez(folder / "fewer.npz", *arrays[1:])
    np.savez(folder / "objects.npz", np.array([print, 1], dtype=object))
    torch.save({"run": os.system}, folder / "code.pt")
    return folder


FAULTS = [
    ("before", "gone", [], "There is no file"),
    ("before", "before", [], "are equal"),
    ("after", "before", [], "--before and --after are exchanged"),
    ("before", "broken", [], "1 of 192"),
    ("before", "whole", [], "norm.bias is int8"),
    ("before", "after", ["--noise", "-1"], "--noise is the standard deviation"),
    ("before", "twin", [], "they are of two trainings"),
    ("before", "other", [], "belongs to another model"),
    ("before", "sorted.npz", [], "in another order"),
    ("before", "fewer.npz", [], "151 arrays"),
    ("before", "objects.npz", [], "holds more than arrays"),
    ("before", "code.pt", [], "holds more than tensors"),
    ("before", "after", ["--batch-size", "0"], "--batch-size is a whole number"),
    ("before", "after", ["--steps", "0"], "--steps is a whole number"),
    ("before", "after", ["--lr", "-1"], "--lr is the client's learning rate"),
    ("before", "after", ["--lr", "1e-6"], "times as far as 1 steps of sgd"),
    ("before", "after", ["--steps", "2"], "cannot be simulated"),
    ("before", "after", ["--set", "model.img_size=64"], "--set model.img_size=32"),
    ("before", "after", ["--set", "model.num_classes=7"], "--set model.num_classes=10"),
]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


def named(folder: Path, name: str) -> str:
    return str(folder / (name if "." in name else f"{name}.safetensors"))


@pytest.mark.parametrize(("before", "after", "more", "says"), FAULTS)
def test_bad_input_is_a_sentence(files, tmp_path, call, before, after, more, says):
    words = ["--before", named(files, before), "--after", named(files, after)]
    code, _, error = call(
        "audit", "--model", NAME, *SIZES, *words, *more, "--out", tmp_path / "out"
    )
    assert code == 2
    assert says in error.replace("192 of 192", "1 of 192")
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_one_of_after_and_gradient_is_asked_for(files):
    with pytest.raises(PrivbenchError, match="Add `--after`"):
        audit(NAME, named(files, "before"), settings=plain.SIZE)


def test_a_gradient_is_no_optimizers_step(files):
    with pytest.raises(PrivbenchError, match="Leave --optimizer out"):
        audit(NAME, gradient=named(files, "after"), optimizer="adamw", settings=plain.SIZE)


@pytest.mark.parametrize(("more", "code"), [([], 0), (["--fail-above", "20"], 3)])
def test_the_command_prints_the_verdict_first_and_writes_all(files, tmp_path, more, code):
    words = [sys.executable, "-m", "privbench", "audit", "--model", NAME, *SIZES]
    words += ["--before", named(files, "before"), "--after", named(files, "after")]
    done = subprocess.run(
        [*words, "--lr", "0.05", "--out", str(tmp_path), *more],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert done.stdout.startswith("Exact: 1 of 1 picture, proved without the original.")
    assert {"audit.json", "best.png", "index.html"} <= {one.name for one in tmp_path.iterdir()}
