"""Data are known by content and shown by the user's name; no figure is made of two sets."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from privbench.corruption_names import COUNTED, SEVERITIES
from privbench.records.asked import Asked, shown
from privbench.records.utility import UtilityCase, UtilityRecord, UtilityStore
from privbench.utility.cells import corruption_table
from privbench.utility.compare import compare
from privbench.utility.plan import Request
from privbench.utility.robustness import robustness_table
from privbench.utility.run import evaluate
from privbench.utility.table import utility_table
from privbench.utility.tasks import tasks
from tests.commands import Call, caller
from tests.sample_records import part

SHALLOW = ("--set", "model.depth=1", "--weights", "init")
CORRUPTION = "cifar10_c_mean_error"


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


def released(root: Path, seed: int, n: int = 4) -> Path:
    """CIFAR-10-C with the fifteen corruptions, of noise."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    np.save(root / "labels.npy", np.tile(rng.integers(0, 10, n), 5).astype(np.uint8))
    for name in COUNTED:
        np.save(root / f"{name}.npy", rng.integers(0, 256, (5 * n, 32, 32, 3), dtype=np.uint8))
    return root


def pictures(root: Path, seed: int, side: int = 32, count: int = 6) -> Path:
    """Class folders with pictures of noise, as bitmaps: all of one size in bytes."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        path = root / f"class{number % 3}" / f"{number}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
    return root


def errors_of(out: Path, root: Path) -> float:
    """Measure a release; return its mean error by hand, from the records that come back."""
    request = Request(
        ["vit_vanilla"],
        evals=["cifar10_c"],
        roots={"cifar10_c": root},
        assignments=["model.depth=1"],
        weights="init",
    )
    records = evaluate(request, "cpu", out, lambda *_: None)
    assert len(records) == 75
    return 100 * float(np.mean([np.mean([*map(float, r.values["wrong"])]) for r in records]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "second", ["b/noise", pytest.param("a/other", marks=pytest.mark.slow)], ids=str
)
def test_two_releases_of_one_set_have_a_row_each(tmp_path: Path, second: str) -> None:
    roots = [released(tmp_path / "a/noise", 1), released(tmp_path / second, 5)]
    expected = [errors_of(tmp_path / "out", root) for root in roots]
    table = pd.read_csv(tmp_path / "out" / "robustness.csv")
    assert sorted(table[CORRUPTION]) == pytest.approx(sorted(expected))
    assert len(set(table["dataset"])) == 2
    for root in roots:
        assert any(root.name in name for name in table["dataset"])


def test_a_replaced_picture_of_the_same_size_is_measured_anew(tmp_path: Path, call: Call) -> None:
    root = pictures(tmp_path / "mine", 0, side=224)
    command = ("eval", "--model", "vit_vanilla_small", *SHALLOW, "--eval", "accuracy")
    command = (*command, "--dataset", "folder", "--data-root", root, "--out", tmp_path / "out")
    assert call(*command)[0] == 0
    path = root / "class1" / "1.bmp"
    before = path.read_bytes()
    Image.new("RGB", (224, 224), "red").save(path)
    assert len(path.read_bytes()) == len(before)
    assert call(*command)[0] == 0
    records = [*UtilityStore(tmp_path / "out").records()]
    assert len({one.case.images_sha256 for one in records}) == 2
    table = pd.read_csv(tmp_path / "out" / "accuracy.csv")
    assert len(set(table["dataset"])) == len(table) == 2


def test_the_same_pixels_are_shown_by_the_name_that_was_given(tmp_path: Path, call: Call) -> None:
    first = pictures(tmp_path / "first", 0)
    shutil.copytree(first, tmp_path / "second")
    for name in ("first", "second"):
        code, text, err = call(
            *("eval", "--model", "vit_vanilla", *SHALLOW, "--eval", "accuracy"),
            *("--dataset", "folder", "--data-root", tmp_path / name, "--out", tmp_path / "out"),
        )
        assert code == 0, err
        assert f"folder@{name}" in text
    assert len(list((tmp_path / "out").rglob("utility/*/*.json"))) == 1, "measured once"
    table: Any = pd.read_csv(tmp_path / "out" / "accuracy.csv")
    assert list(table["dataset"]) == ["folder@first", "folder@second"]
    assert table["top1"].nunique() == 1


def test_attacked_pictures_are_shown_by_the_name_that_was_given(tmp_path: Path, call: Call) -> None:
    first = pictures(tmp_path / "x/mine", 0)
    shutil.copytree(first, tmp_path / "twin")
    pictures(tmp_path / "y/mine", 1)
    command = ("run", "--attack", "mean", "--model", "vit_vanilla", *SHALLOW)
    for name, images in (("x/mine", "0,1"), ("twin", "0,1"), ("y/mine", "2,3"), ("x/mine", "2,5")):
        code, _, err = call(
            *(*command, "--dataset", "folder", "--data-root", tmp_path / name),
            *("--images", images, "--out", tmp_path / "out"),
        )
        assert code == 0, err
    table = pd.read_csv(tmp_path / "out" / "leaderboard.csv")
    by_name = {str(row["dataset"]): row["n"] for row in table.to_dict("records")}
    assert by_name.pop("folder@twin") == 2
    assert sorted(by_name.values()) == [2, 4], "x and y apart, x as one"
    assert all(name.startswith("folder@mine [") for name in by_name)


def test_what_comes_along_keeps_its_key_and_its_bytes(tmp_path: Path, call: Call) -> None:
    command = ("eval", "--model", "vit_vanilla", *SHALLOW, "--eval", "accuracy", "--images", 4)
    assert call(*command, "--out", tmp_path)[0] == 0
    [path] = tmp_path.rglob("utility/*/*.json")
    assert not (tmp_path / "asked").exists()
    record = UtilityRecord.from_json(path.read_text())
    assert json.loads(path.read_text())["key"] == record.case.key == path.stem
    assert "data" not in json.loads(path.read_text())


def cell(
    name: str, severity: int, corruption: str, data: str, sha: str, wrong: list[float]
) -> UtilityRecord:
    condition = {"recipe": "cifar10", "corruption": corruption, "severity": severity}
    case = UtilityCase(
        model=replace(part("vit_vanilla"), settings={"scheme": "vanilla"}),
        control="vit_vanilla",
        weights="init",
        weights_sha256="ab" * 32,
        evaluation=part("cifar10_c"),
        condition=condition,
        dataset=replace(
            part("cifar10_c"), label=f"{name}(corruption={corruption}, severity={severity})"
        ),
        n=len(wrong),
        images_sha256=f"{sha} {corruption} {severity}",
        seed=0,
    )
    return UtilityRecord(case, {"wrong": [*wrong]}, 1.0, data=data)


SETS = st.lists(
    st.tuples(st.sampled_from(["c@a", "c@b"]), st.sampled_from(["", "d1", "d2"])),
    min_size=1,
    max_size=4,
    unique=True,
)


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(SETS, st.data(), st.randoms())
def test_no_figure_is_made_of_two_sets(sets: Any, data: Any, random: Any) -> None:
    """Set i has the error 2^-i on all cells, so that no mixture has the error of a set."""
    records, errors, full = [], {}, set()
    for i, (name, asked) in enumerate(sets):
        wrong = [1.0] * 2 ** (4 - i) + [0.0] * (16 - 2 ** (4 - i))
        errors[100 * 2.0**-i] = (name, asked)
        left_out = data.draw(st.sampled_from([(), ("fog",), COUNTED[3:]]))
        full |= set() if left_out else {(name, asked)}
        records += [
            cell(name, s, c, asked, f"set {i}", wrong)
            for c in COUNTED
            for s in SEVERITIES
            if c not in left_out
        ]
    random.shuffle(records)
    table = robustness_table(records)
    found = list(table[CORRUPTION]) if len(table) else []
    assert {errors[value] for value in found} == full
    assert len(found) == len(full)
    if len(table):
        assert len(set(table["dataset"])) == len(table)
    cells: Any = corruption_table(records)
    assert set(cells["error"].dropna()) | set(cells["mean_error"].dropna()) <= set(errors)
    for task in (task for measured in tasks(records).values() for task in measured):
        assert len({one.case.images_sha256.rsplit(" ", 2)[0] for one in task.passes}) == 1


def test_old_records_of_one_name_but_two_contents_make_no_mean() -> None:
    """Of an earlier time nothing says which of them belong together."""
    old = [
        cell("c@a", s, c, "", sha, [wrong, 0.0])
        for sha, wrong in (("one", 1.0), ("two", 0.0))
        for c in COUNTED
        for s in SEVERITIES
    ]
    assert not len(robustness_table(old))
    assert set(corruption_table(old)["error"]) == {0.0, 50.0}
    alone = [one for one in old if one.case.images_sha256.startswith("one")]
    assert robustness_table(alone)[CORRUPTION].tolist() == [50.0]


def test_a_record_is_shown_under_every_name_that_was_asked() -> None:
    record = cell("c@a", 1, "fog", "", "x", [1.0])
    own = record.case.dataset.label
    assert [one.case.dataset.label for one in shown([record], {})] == [own]
    asked = {record.case.key: {Asked("c@b", "d"), Asked("c@c", "d")}}
    names = [one.case.dataset.label for one in shown([record], asked)]
    assert names == [own, "c@b", "c@c"]
    assert {one.case.key for one in shown([record], asked)} == {record.case.key}


def test_torn_or_foreign_files_beside_the_records_do_not_count(tmp_path: Path) -> None:
    store = UtilityStore(tmp_path)
    record = cell("c@a", 1, "fog", "", "x", [1.0])
    store.put(record)
    store.ask({record.case.key: Asked("c@b", "d")}, {})
    [path] = (tmp_path / "asked").glob("*.json")
    whole = path.read_text()
    for broken in ("", "[]", "{}", whole[:-9], whole.replace("c@b", "c@z")):
        path.write_text(broken)
        assert [one.case.dataset.label for one in store.records()] == [record.case.dataset.label]
    path.write_text(whole)
    assert "c@b" in {one.case.dataset.label for one in store.records()}


def test_a_comparison_says_which_data_where_there_are_several() -> None:
    rng = np.random.default_rng(0)
    records = []
    for name, sha in (("c@a", "one"), ("c@b", "two")):
        for model in ("vit_vanilla", "vit_mjp"):
            for severity in SEVERITIES:
                wrong = rng.integers(0, 2, 8).astype(float).tolist()
                one = cell(name, severity, "fog", sha, sha, wrong)
                case = replace(one.case, model=replace(one.case.model, name=model, label=model))
                records.append(replace(one, case=case))
    table = compare(records, "vit_vanilla", "vit_mjp")
    assert sorted(table["measure"]) == ["cifar10_c fog on c@a", "cifar10_c fog on c@b"]


def test_accuracy_of_two_folders_of_one_name_is_told_apart(tmp_path: Path, call: Call) -> None:
    for place in ("x", "y"):
        root = pictures(tmp_path / place / "mine", ord(place))
        code, _, err = call(
            *("eval", "--model", "vit_vanilla", *SHALLOW, "--eval", "accuracy"),
            *("--dataset", "folder", "--data-root", root, "--out", tmp_path / "out"),
        )
        assert code == 0, err
    table = utility_table(UtilityStore(tmp_path / "out").records())
    assert len(set(table["dataset"])) == 2
    assert all(name.startswith("folder@mine [") for name in table["dataset"])
