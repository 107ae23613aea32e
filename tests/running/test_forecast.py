"""A dry run says what a run would do and cost, and does nothing."""

import pytest
import torch

from privbench.api import execute, foresee
from privbench.attacks.mean import MeanColor
from privbench.errors import BadSetting
from privbench.records.store import Store
from privbench.running.forecast import forecast
from privbench.running.plan import plan
from privbench.running.suite import Suite
from tests.commands import Call, caller, contents

WORDS = ("--attack", "mean,gradinv", "--model", "vit_vanilla,vit_mjp", "--images", "3")
SET = ("--set", "model.depth=1", "--set", "attack.steps=2")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


def suite(**options: object) -> Suite:
    given = {"attack": "mean,gradinv", "model": "vit_vanilla", "images": "2"} | options
    return Suite.build(given | {"set": ["model.depth=1", "attack.steps=2"]})


def test_cost_is_the_mean_of_records_of_the_kind(tmp_path):
    records = execute(suite(), Store(tmp_path), "cpu")
    wider = plan(suite(model="vit_vanilla,vit_mjp", images="5"), torch.device("cpu"))
    rows = {(r.attack.partition("(")[0], r.model): r for r in forecast(wider, records)}
    assert len(rows) == 4
    gradinv = [r for r in records if r.case.attack.name == "gradinv"]
    mean = sum(float(r.seconds or 0) for r in gradinv) / 2
    own, other = rows["gradinv", "vit_vanilla(depth=1)"], rows["gradinv", "vit_mjp(depth=1)"]
    assert (own.cases, own.done, own.to_run, own.known) == (5, 2, 3, 3)
    assert own.gradient_calls == 3 * gradinv[0].gradient_calls
    assert own.seconds == pytest.approx(3 * mean)
    assert (other.cases, other.done, other.known) == (5, 0, 5), "a victim of the same sizes counts"
    assert other.seconds == pytest.approx(5 * mean)
    [alone] = forecast(plan(suite(attack="gradinv", batch_size=2), torch.device("cpu")), records)
    assert (alone.to_run, alone.known) == (1, 0), "a batch is another kind"


def test_nothing_runs_and_nothing_is_written(tmp_path, monkeypatch, call):
    execute(suite(), Store(tmp_path), "cpu")
    before = contents(tmp_path)

    def fail(*_: object) -> None:
        raise AssertionError("an attack ran")

    monkeypatch.setattr(MeanColor, "reconstruct", fail)
    code, out, err = call("run", *WORDS, *SET, "--dry-run", "--out", tmp_path)
    assert (code, err) == (0, "")
    assert "12 cases: 4 on record, 0 refused, 8 to run. Nothing was run." in out
    assert "for 8 of them: the mean of records of the same kind" in out
    assert "No estimate" not in out
    assert contents(tmp_path) == before
    code, out, _ = call("run", *WORDS, *SET, "--dry-run", "--out", tmp_path / "nowhere")
    assert code == 0
    assert "No estimate for 12 of them" in out
    assert not (tmp_path / "nowhere").exists()


def test_refused_and_failed_cases_are_counted_as_a_run_would(tmp_path, monkeypatch):
    def crash(*_: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(MeanColor, "reconstruct", crash)
    given = {"attack": "mean,pe_ls", "model": "vit_nope", "images": "2"}
    mixed = Suite.build(given | {"set": ["model.depth=1"]})
    execute(mixed, Store(tmp_path), "cpu")
    rows = foresee(mixed, Store(tmp_path), "cpu")
    assert [(r.attack, r.done, r.refused, r.to_run) for r in rows] == [
        ("mean", 2, 0, 0),
        ("pe_ls", 0, 2, 0),
    ]
    again = foresee(mixed, Store(tmp_path), "cpu", retry_failed=True)
    assert [(r.done, r.to_run, r.known) for r in again] == [(0, 2, 0), (0, 0, 0)]


def test_shards_share_the_cases(tmp_path):
    parts = [foresee(suite(), Store(tmp_path), "cpu", shard=f"{i}/3") for i in (1, 2, 3)]
    assert sum(row.cases for part in parts for row in part) == 4
    with pytest.raises(BadSetting, match="2/3"):
        foresee(suite(), Store(tmp_path), "cpu", shard="0/3")


@pytest.mark.parametrize("shard", ["0/3", ""])
def test_a_shard_that_is_none_is_refused_before_anything_is_read(shard, call):
    code, _, err = call("run", "--suite", "nowhere.yaml", "--shard", shard)
    assert (code, err.count("\n")) == (2, 1)
    assert "--shard is a part of the whole" in err
