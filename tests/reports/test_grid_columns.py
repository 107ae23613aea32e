"""Grids whose columns are what is compared, and whose rows are picked by their leak."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from privbench.errors import BadSetting, UnknownName
from privbench.records import picture as strip
from privbench.records.case import Record
from privbench.records.store import Store
from privbench.reports.compared import comparisons
from privbench.reports.grid import INPUT, _columns, save_by
from privbench.reports.picked import PICKS, picked
from tests.commands import Call, caller
from tests.sample_records import done, part


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


def columns(records: list[Record], axis: str) -> list[list[str]]:
    return [list(one.columns) for one in comparisons(records, axis)]


def test_each_comparison_differs_in_nothing_but_its_axis():
    models = ("vit_vanilla", "vit_mjp")
    records = [
        done(model=m, attack=a, defense=[d], seed=s)
        for m in models
        for a in ("pe_ls", "auto")
        for d in ("round", "none")
        for s in (0, 1)
    ]
    assert columns(records, "model") == [["vit_vanilla", "vit_mjp"]] * 8, "the control comes first"
    assert columns(records, "defense") == [["none", "round"]] * 8, "so does no defense"
    assert columns(records, "seed") == [["seed 0", "seed 1"]] * 8
    for one in comparisons(records, "attack"):
        cases = [record.case for group in one.columns.values() for record in group]
        assert len({(c.model.label, c.defended, c.seed) for c in cases}) == 1
        assert "attack" not in one.shared


def test_a_setting_is_compared_by_size_with_all_others_alike():
    noise = [part("noise", sigma=sigma, relative=True) for sigma in (0.1, 0.02, 1.0)]
    other = [part("noise", sigma=sigma, relative=False) for sigma in (0.1, 0.02)]
    records = [done(defense=[d]) for d in (*noise, *other, "none")]
    wanted = [["sigma 0.02", "sigma 0.1", "sigma 1.0"], ["sigma 0.02", "sigma 0.1"]]
    assert sorted(columns(records, "defense.sigma"), key=len) == wanted[::-1]
    assert len(columns(records, "defense.relative")) == 2
    threats: list[dict[str, Any]] = [{}, {"wire": "weights"}]
    wires = [
        replace(one, case=replace(one.case, threat={**one.case.threat, **threat}))
        for one, threat in zip([done(), done()], threats, strict=True)
    ]
    assert columns(wires, "threat.wire") == [["wire default", "wire weights"]]


def test_batches_are_compared_though_their_pictures_come_together(tmp_path):
    records = [done(images=(0,)), done(images=(1,)), done([9.0, 8.0], [7.0] * 2, images=(0, 1))]
    [one] = comparisons(records, "batch")
    assert list(one.columns) == ["batch 1", "batch 2"]
    store = stored(tmp_path, records)
    original, *rest = _columns(one, store, {0: "", 1: ""})
    assert [panel.heading for panel in rest] == ["batch 1", "batch 2"]
    assert rest[1].captions == {0: "9.0 dB", 1: "8.0 dB"}
    assert original.captions == {0: "no. 0", 1: "no. 1"}


def test_what_no_record_has_and_what_does_not_vary_are_refused():
    records = [done(), done(model="vit_vanilla")]
    with pytest.raises(UnknownName, match="No column to compare is called 'modell'"):
        comparisons(records, "modell")
    with pytest.raises(BadSetting, match=r"in attack and in nothing else\. They differ in mod"):
        comparisons(records, "attack")
    with pytest.raises(BadSetting, match="Run more than one of something first"):
        comparisons([done()], "attack")


def leaks(attack: str, *values: float) -> list[Record]:
    return [done([float(v)], images=(i,), attack=attack) for i, v in enumerate(values)]


def test_pictures_are_picked_by_their_mean_leak_over_the_columns():
    groups = [leaks("a", 10, 30, 20, 25, 90), leaks("b", 10, 10, 40, 25)]
    assert picked(groups, PICKS) == {2: "worst", 1: "median", 0: "best"}, "4 is not in both"
    assert list(picked(groups, ["best", "worst"])) == [0, 2]
    assert picked([leaks("a", 5)], PICKS) == {0: "worst, median, best"}
    assert list(picked([leaks("a", *range(20))])) == list(range(8))
    with pytest.raises(UnknownName, match="No pick is called 'wrost'"):
        picked(groups, ["wrost"])


def stored(tmp_path: Path, records: list[Record], moved: str = "") -> Store:
    """Records with pictures; victims whose name is `moved` were fed others."""
    store = Store(tmp_path / "results")
    for record in records:
        size = len(record.case.images)
        tiles = torch.linspace(0, 1, 3 * 8 * 8).view(1, 3, 8, 8).expand(size, -1, -1, -1)
        fed = tiles.flip(3) if record.case.model.label in moved.split() else tiles
        store.put(record, strip.draw(tiles, fed, 1 - tiles))
    return store


def test_inputs_that_are_alike_are_one_column_that_names_its_victims(tmp_path):
    records = [done(model=m) for m in ("vit_vanilla", "vit_mjp", "vit_shuffle")]
    store = stored(tmp_path, records, moved="vit_mjp vit_shuffle")
    [one] = comparisons(records, "model")
    headings = [panel.heading for panel in _columns(one, store, {0: ""})]
    shared = "input of vit_mjp, vit_shuffle"
    assert headings == ["original", "vit_vanilla", shared, "vit_mjp", "vit_shuffle"]
    attacks = [done(attack=a, model="vit_mjp") for a in ("a", "b")]
    [one] = comparisons(attacks, "attack")
    there = stored(tmp_path / "attacks", attacks, moved="vit_mjp")
    headings = [panel.heading for panel in _columns(one, there, {0: ""})]
    assert headings == ["original", INPUT, "a", "b"]


def test_every_comparison_is_a_file_of_its_own(tmp_path):
    records = [done(model=m, attack=a) for m in ("vit_vanilla", "vit_mjp") for a in "ab"]
    store = stored(tmp_path, records)
    paths = save_by(store.records(), store, "model", ["worst"])
    assert len(set(paths)) == 2
    assert all(re.search(r"grids/by-model-init_weights-[ab]-none-", path) for path in paths)


def test_the_command_draws_and_refuses(tmp_path, call):
    records = [done(model=m) for m in ("vit_vanilla", "vit_mjp")]
    store = stored(tmp_path, records)
    code, out, _ = call("grid", "--out", store.folder, "--columns", "model", "--pick", "worst,best")
    assert (code, out.count("by-model")) == (0, 1)
    code, out, _ = call("grid", "--out", store.folder, "--pick", "median")
    assert (code, out.count("Grid: ")) == (0, 2)
    for words, answer in (
        ("--columns model --side-by-side", "Leave one of them out."),
        ("--columns defence", "No column to compare is called 'defence'. Did you mean 'defense'?"),
        ("--columns seed", "No two of these records differ in seed and in nothing else."),
        ("--columns model --pick middle", "No pick is called 'middle'."),
    ):
        code, _, err = call("grid", "--out", store.folder, *words.split())
        assert code == 2
        assert answer in err
