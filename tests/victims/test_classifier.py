"""Models to evaluate: victims, any timm model, and a user's own network."""

import json

import pandas as pd
import pytest
import torch

from privbench.component import make
from privbench.dataset import Dataset
from privbench.errors import UnknownName
from privbench.utility.plan import Request
from privbench.utility.run import evaluate
from privbench.victims.classifier import open_classifier
from tests.commands import caller

CPU = torch.device("cpu")
OWN = """
import torch

class Net(torch.nn.Module):
    img_size = 32

    def forward(self, images):
        return images.mean((2, 3)) @ torch.eye(3, 10)

def make():
    return Net()

def broken():
    raise RuntimeError("no weights here")

def number():
    return 3
"""


def test_classes_out_of_the_question_are_no_answer(pictures):
    images, _ = pictures(6)
    model = open_classifier("vit_vanilla", {"depth": 1}, "init", CPU).restricted([2, 5, 7])
    logits = model.logits(images)
    assert set(logits.argmax(1).tolist()) <= {2, 5, 7}
    assert logits.softmax(1)[:, [2, 5, 7]].sum(1).tolist() == pytest.approx([1] * 6)
    free = open_classifier("vit_vanilla", {"depth": 1}, "init", CPU).logits(images)
    assert torch.equal(free[:, [2, 5, 7]], logits[:, [2, 5, 7]])


def test_a_users_own_network_is_measured_like_any_other(tmp_path, monkeypatch, capsys):
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    out = tmp_path / "results"
    call = caller(monkeypatch, capsys)
    code, text, err = call("eval", "--model", f"{file}:make", "--dataset", "cifar10", "--out", out)
    assert code == 0, err
    assert "mine.py:make" in text
    row = pd.read_csv(out / "accuracy.csv").iloc[0]
    assert (row["model"], row["weights"], row["n"]) == ("mine.py:make", "own", 100)
    images, labels = make(Dataset, "cifar10", {}).load(range(100), 32, 10)
    expected = (images.mean((2, 3)).argmax(1) == labels).float().mean()
    assert row["top1"] == pytest.approx(float(expected))
    record = json.loads(next(out.rglob("*.json")).read_text())
    assert str(tmp_path) not in json.dumps(record)


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        ("mine.py:broken", "failed with RuntimeError: no weights here"),
        ("mine.py:number", "returns int, not a torch.nn.Module"),
        ("mine.py:mak", "Did you mean 'make'?"),
        ("other.py:make", "There is no file 'other.py'"),
        ("mine.py:Net", ""),
    ],
)
def test_a_network_that_is_none_is_answered_in_a_sentence(
    tmp_path, monkeypatch, capsys, model, answer
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    code, _, err = caller(monkeypatch, capsys)(
        "eval", "--model", model, "--dataset", "cifar10", "--eval", "accuracy"
    )
    assert code == (2 if answer else 0), err
    assert answer in err
    assert "Traceback" not in err


def test_any_timm_model_is_measured(tmp_path):
    settings = ("model.nix=1",)
    wrong = Request(models=("timm:resnet18",), images=4, weights="init", assignments=settings)
    with pytest.raises(UnknownName, match="No setting of model"):
        evaluate(wrong, "cpu", tmp_path, lambda *_: None)
    model = open_classifier("timm:test_byobnet", {}, "init", CPU)
    assert model.public is None
    assert model.logits(torch.rand(2, 3, model.side, model.side)).shape == (2, model.classes)
    again = open_classifier("timm:test_byobnet", {}, "init", CPU)
    assert again.weights_sha256 == model.weights_sha256
