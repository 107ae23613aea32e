"""Every request ends in a number, a reason or a refusal."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from privbench.attack import Attack
from privbench.component import find
from privbench.records.store import Store
from tests.commands import Call, caller

SHALLOW = ("--set", "model.depth=1", "--weights", "init")
FEW = ("eval", "--model", "vit_vanilla", *SHALLOW, "--images", 4)
RUN = ("run", "--model", "vit_vanilla", *SHALLOW, "--attack")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


def pictures(root: Path) -> Path:
    for number in range(4):
        path = root / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return root


@pytest.mark.parametrize("corruption", ["gaussian_noise", "saturate"])
def test_a_single_corruption_has_its_number(tmp_path: Path, call: Call, corruption: str) -> None:
    wanted = ("--eval", "cifar10_c_regen", "--set", f"eval.corruptions=[{corruption}]")
    code, text, err = call(*FEW, *wanted, "--set", "eval.severities=[2,4]", "--out", tmp_path)
    assert code == 0, err
    assert f" {corruption} " in text
    table: Any = pd.read_csv(tmp_path / "corruptions.csv")
    rows = table[table["corruption"] == corruption]
    assert list(rows["severity"]) == ["2", "4", "all"]
    errors = rows["error"].dropna()
    assert rows["mean_error"].iloc[-1] == pytest.approx(errors.mean())
    assert f"{errors.iloc[0]:.1f}" in text
    assert (rows["error_lo"].dropna() <= errors).all()
    assert not (tmp_path / "robustness.csv").exists()


@pytest.mark.parametrize(
    ("wrong", "answer"),
    [
        (["--robustness", "--dataset", "folder", "--data-root", "PICTURES"], "folder is neither"),
        (["--eval", "accuracy", "--seed", "1"], "--seed changes nothing"),
        (["--eval", "cifar10_c", "--cifar10-c", "PICTURES", "--dataset", "folder"], "--dataset"),
        (["--eval", "cifar10_c", "--cifar10-c", "PICTURES", "--data-root", "x"], "--data-root"),
        (["--eval", "accuracy", "--set", "dataset.nothing=1"], "nothing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_would_change_nothing_is_refused(
    tmp_path: Path, call: Call, wrong: list[str], answer: str
) -> None:
    root = pictures(tmp_path / "pictures")
    np.save(root / "labels.npy", np.zeros(20, np.uint8))
    from privbench.corruption_names import COUNTED

    for name in COUNTED:
        np.save(root / f"{name}.npy", np.zeros((20, 32, 32, 3), np.uint8))
    given = [str(root) if one == "PICTURES" else one for one in wrong]
    code, _, err = call(*FEW, *given, "--out", tmp_path / "out")
    assert code == 2
    assert answer in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def test_the_advice_for_robustness_of_a_folder_works(tmp_path: Path, call: Call) -> None:
    given = (*FEW, "--dataset", "folder", "--data-root", pictures(tmp_path / "mine"))
    code, _, err = call(*given, "--robustness", "--out", tmp_path / "out")
    assert code == 2
    assert "--eval accuracy,cifar10_c_regen" in err
    advised = ("--eval", "accuracy,cifar10_c_regen", "--set", "eval.severities=[1]")
    assert call(*given, *advised, "--out", tmp_path / "out")[0] == 0


@pytest.mark.parametrize("images", ["3,3", "1,2,1"])
def test_no_picture_counts_twice(tmp_path: Path, call: Call, images: str) -> None:
    code, _, err = call(*RUN, "mean", "--images", images, "--out", tmp_path)
    assert code == 2
    assert "more than once" in err


def test_a_run_in_which_all_fail_ends_with_1_and_some_with_0(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise RuntimeError("no idea")

    monkeypatch.setattr(find(Attack, "mean"), "reconstruct", crash)
    code, _, err = call(*RUN, "mean", "--images", 2, "--out", tmp_path)
    assert code == 1
    assert "Of 2 cases 2 failed" in err
    assert "no idea" in err
    code, _, err = call(*RUN, "mean,random", "--images", 2, "--out", tmp_path)
    assert code == 0
    assert "Of 4 cases 2 failed" in err


def test_rescoring_says_when_it_could_score_nothing(tmp_path: Path, call: Call) -> None:
    assert call(*RUN, "mean", "--images", 1, "--out", tmp_path)[0] == 0
    code, _, err = call("rescore", "--data-root", tmp_path, "--out", tmp_path)
    assert code == 2
    assert "--data-root would change nothing" in err
    from dataclasses import replace

    store = Store(tmp_path)
    [record] = store.survey()[0]
    old = {name: {**facts, "version": 0} for name, facts in record.metrics.items()}
    store.put(replace(record, metrics=old, answers_sha256=""))
    code, text, _ = call("rescore", "--out", tmp_path)
    assert code == 1
    assert "1 left as they were" in text


def test_a_grid_of_nothing_is_refused(tmp_path: Path, call: Call) -> None:
    for attack, model in (("mean", "vit_vanilla"), ("random", "vit_mjp")):
        given = ("run", "--model", model, *SHALLOW, "--attack", attack, "--images", 1)
        assert call(*given, "--out", tmp_path)[0] == 0
    code, _, err = call("grid", "--attack", "mean", "--model", "vit_mjp", "--out", tmp_path)
    assert code == 2
    assert "No record is of both" in err
