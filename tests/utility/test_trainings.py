"""Differences over trainings: each pair of weights is one number, however many pictures it has."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from privbench.errors import BadSetting
from privbench.records.utility import UtilityRecord
from privbench.reports.stats import over_few
from privbench.utility.compare import compare
from privbench.utility.plan import Request
from privbench.utility.run import evaluate
from privbench.utility.trainings import over_trainings, read_pairs
from tests.commands import caller

MODELS = ("vit_vanilla", "vit_shuffle")
PAIRS = [("a", "b"), ("c", "d"), ("e", "f")]
PICTURES = 50


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[UtilityRecord]:
    """Two models that were trained three times, the first better by 2, 4 and 6 pictures of 50."""
    out = tmp_path_factory.mktemp("trainings")
    request = Request(models=MODELS, evals=("accuracy",), images=2, weights="init")
    plain = evaluate(request, "cpu", out, lambda *_: None)
    found = []
    for number, pair in enumerate(PAIRS):
        for place, (record, weights) in enumerate(zip(plain, pair, strict=True)):
            right = 30 + (2 + 2 * number if not place else 0)
            case = replace(record.case, weights=weights, weights_sha256=weights * 64, n=PICTURES)
            values = {"top1": [float(i < right) for i in range(PICTURES)]}
            found.append(replace(record, case=case, values=values))
    return found


def test_each_pair_of_trainings_is_one_number(records):
    row = over_trainings(records, *MODELS, PAIRS).set_index("measure").loc["top1"]
    differences = np.array([2, 4, 6]) / PICTURES
    assert row["n"] == len(PAIRS)
    assert row["first"] == pytest.approx(0.6 + differences.mean())
    assert row["second"] == pytest.approx(0.6)
    half = t.ppf(0.975, 2) * differences.std(ddof=1) / 3**0.5
    assert row["lo"] == pytest.approx(differences.mean() - half)
    assert row["hi"] == pytest.approx(differences.mean() + half)
    assert row["p"] == pytest.approx(2 * t.sf(differences.mean() / (half / t.ppf(0.975, 2)), 2))


def test_one_training_more_sure_of_its_pictures_decides_nothing_over_trainings(records):
    single = compare(records, *MODELS, *PAIRS[2]).set_index("measure").loc["top1"]
    assert single["lo"] > 0
    over = over_trainings(records, *MODELS, PAIRS[1:]).set_index("measure").loc["top1"]
    assert over["lo"] < 0 < over["hi"]


def test_equal_trainings_and_a_single_one(records):
    assert over_few([0.0, 0.0]) == (0, 0, 0, 1)
    assert over_few([0.5, 0.5]) == (0.5, 0.5, 0.5, 0)
    mean, *rest = over_few([0.5])
    assert mean == 0.5
    assert np.isnan(rest).all()


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ("a:b", "one pair of trainings has no interval"),
        ("a,b", "'a' is no pair"),
        ("a:b:c,d:e", "'a:b:c' is no pair"),
        ("a:b,:d", "':d' is no pair"),
        ("a:b,a:d", "a stands in two pairs"),
        ("a:b,c:b", "b stands in two pairs"),
    ],
)
def test_what_are_no_pairs_is_said(given, answer):
    with pytest.raises(BadSetting, match=answer):
        read_pairs(given)
    assert read_pairs("trained:trained, x.safetensors : y.safetensors") == [
        ("trained", "trained"),
        ("x.safetensors", "y.safetensors"),
    ]


def test_the_command_reads_pairs(tmp_path: Path, monkeypatch, capsys):
    call = caller(monkeypatch, capsys)
    asked = ("--model", ",".join(MODELS), "--eval", "accuracy", "--images", "3")
    for weights in ("init", "trained"):
        code, _, err = call("eval", *asked, "--weights", weights, "--out", tmp_path)
        assert code == 0, err
    pairs = ("--pairs", "trained:trained,init:init")
    code, text, err = call("compare", *MODELS, *pairs, "--out", tmp_path)
    assert code == 0, err
    assert "over trainings" in text
    table = pd.read_csv(tmp_path / "trainings.csv").set_index("measure")
    assert table.loc["top1", "n"] == 2
    assert not (tmp_path / "comparison.csv").exists()
    code, _, err = call("compare", *MODELS, "--pairs", "nix:init,init:nix", "--out", tmp_path)
    assert code == 2
    assert "in --pairs, by name" in err
    code, _, err = call("compare", *MODELS, *pairs, "--weights", "init", "--out", tmp_path)
    assert code == 2
    assert "Leave --weights out" in err
