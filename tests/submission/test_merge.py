"""Folders of records become one, whole or not at all, and a second time changes nothing."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from privbench.component import Part
from privbench.errors import BadData, Unwritable
from privbench.records.answers import digest
from privbench.records.asked import Asked
from privbench.records.bound import BoundCase, BoundRecord, BoundStore
from privbench.records.case import Record
from privbench.records.price import PriceStore
from privbench.records.store import Store
from privbench.records.utility import UtilityStore
from privbench.submission.check import check
from privbench.submission.merge import merge
from tests.commands import Call, caller, contents
from tests.price.test_price import record as price
from tests.sample_records import done, lost, part
from tests.submission.test_check import utility

ANSWER = b"answers of "


def put(folder: Path, image: int, **changes: object) -> Record:
    answer = ANSWER + str(image).encode()
    made = replace(done(images=(image,)), answers_sha256=digest(answer))
    record = replace(made, **changes)  # type: ignore[arg-type]
    Store(folder).put(record, b"picture", answer)
    return record


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders with one case in common."""
    one, two = tmp_path / "one", tmp_path / "two"
    for image in (0, 1):
        put(one, image)
    for image in (1, 2):
        put(two, image)
    UtilityStore(two).put(utility())
    return one, two


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


def test_all_comes_along_and_a_second_merge_changes_no_byte(pair, tmp_path):
    one, two = pair
    out, before = tmp_path / "out", [contents(folder) for folder in pair]
    found = merge(pair, out)
    assert (found.taken, found.there, found.again, found.bare) == (4, 0, 0, 0)
    merged = contents(out)
    del merged["leaderboard.csv"]
    assert merged == before[0] | before[1]
    assert [contents(folder) for folder in pair] == before
    whole = contents(out)
    assert merge(pair, out).taken == 0
    assert merge((two, one), out).there == 4
    assert contents(out) == whole


def test_the_order_of_folders_changes_no_byte(pair, tmp_path):
    merge(pair, tmp_path / "a")
    merge(pair[::-1], tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_without_a_place_the_first_folder_takes_the_others(pair, call):
    code, out, err = call("merge", *pair)
    assert (code, err) == (0, "")
    assert out.startswith("4 records: 2 taken over, 2 were there.\n")
    assert len(list(Store(pair[0]).records())) == 3
    assert "leaderboard.csv" in contents(pair[0])


def test_different_results_of_one_case_are_refused_and_both_are_named(pair, tmp_path, call):
    one, two = pair
    case = put(two, 1, scores={"psnr": [31.4]}).case
    before = contents(one)
    code, _, err = call("merge", one, two)
    assert (code, err.count("\n")) == (2, 1)
    assert str(Store(one).path(case)) in err
    assert str(Store(two).path(case)) in err
    assert contents(one) == before
    assert not (tmp_path / "out").exists()
    with pytest.raises(BadData, match="different results"):
        merge(pair, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failure_and_a_result_are_different_results(pair):
    Store(pair[1]).put(lost(images=(1,)))
    with pytest.raises(BadData, match="different results"):
        merge(pair, pair[0])


def test_one_result_at_two_speeds_is_one_result(pair, tmp_path):
    put(pair[1], 1, seconds=99.0, environment={"device": "another"})
    found = merge(pair, tmp_path / "out")
    assert (found.taken, found.again) == (4, 1)
    assert merge(pair, tmp_path / "out").taken == 0
    assert {r.seconds for r in Store(tmp_path / "out").records()} == {2.0}


def test_answers_come_from_whoever_has_them(pair, tmp_path):
    one, two = pair
    case = done(images=(1,)).case
    Store(one).path(case, ".npz").unlink()
    assert merge(pair, tmp_path / "out").bare == 0
    assert Store(tmp_path / "out").path(case, ".npz").read_bytes() == ANSWER + b"1"
    Store(two).path(case, ".npz").write_bytes(b"others")
    assert merge(pair, tmp_path / "other").bare == 1
    assert not Store(tmp_path / "other").path(case, ".npz").exists()


def test_what_a_link_leads_to_does_not_come_along(pair, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"nobody's picture")
    store, case = Store(pair[1]), done(images=(2,)).case
    store.path(case, ".png").unlink()
    store.path(case, ".png").symlink_to(secret)
    merge(pair, tmp_path / "out")
    assert not Store(tmp_path / "out").path(case, ".png").exists()


def test_torn_files_stay_behind_and_are_counted(pair, tmp_path, call):
    path = Store(pair[1]).path(done(images=(2,)).case)
    path.write_bytes(path.read_bytes()[:50])
    code, out, _ = call("merge", *pair, "--out", tmp_path / "out")
    assert code == 0
    assert "Note. 1 file is no record, and was left behind:\n" in out
    assert f"  {path}: breaks off, a file half-written" in out
    assert len(list(Store(tmp_path / "out").records())) == 2


def test_of_many_files_that_stay_behind_five_are_named_with_their_reasons(pair, tmp_path, call):
    for image in range(3, 9):
        path = Store(pair[1]).path(put(pair[1], image).case)
        path.write_text(path.read_text().replace('"schema": 1', '"schema": 7'))
    ceiling(pair[1], 0)
    [bound] = pair[1].glob("bounds/*/*.json")
    bound.write_text(bound.read_text().replace('"seed": 0', '"seed": 1'))
    _, out, _ = call("merge", *pair, "--out", tmp_path / "out")
    assert "Note. 7 files are no records, and were left behind:\n" in out
    assert out.count("has schema 7; this version reads 1.") == 5
    assert "  and 2 more.\n" in out
    assert merge(pair, tmp_path / "out").broken[bound].startswith("was edited")


def test_no_place_is_no_place(pair, tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = call("merge", *pair, "--out", "")
    assert code == 2
    assert "'--out': it is empty" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


@pytest.mark.parametrize("below", ["cases", "cases/mine"])
def test_no_results_folder_comes_to_lie_among_records(below, pair, call):
    before = contents(pair[0])
    code, _, err = call("merge", *pair, "--out", pair[0] / below)
    assert (code, err.count("\n")) == (2, 1)
    assert "lies among the records of the results folder" in err
    assert contents(pair[0]) == before


def test_the_names_of_data_sets_come_along(pair, tmp_path):
    record = done(images=(2,))
    Store(pair[1]).ask({record.case.key: Asked("mine@folder", "ab")}, {record.case.key: record})
    merge(pair, tmp_path / "out")
    labels = {record.case.dataset.label for record in Store(tmp_path / "out").records()}
    assert "mine@folder" in labels


def test_a_merge_that_is_cut_short_is_finished_by_the_same_call(pair, tmp_path, monkeypatch):
    merge(pair, tmp_path / "calm")
    plain, left = os.fsync, [0]

    def full(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        plain(handle)

    monkeypatch.setattr("os.fsync", full)
    for writes in range(12):
        left[0] = writes % 4
        try:
            merge(pair, tmp_path / "out")
        except Unwritable:
            store = Store(tmp_path / "out")
            assert not store.broken()
            assert all(store.path(r.case, ".npz").is_file() for r in store.survey()[0])
    monkeypatch.setattr("os.fsync", plain)
    merge(pair, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "calm")


def test_what_is_no_results_folder_is_refused(tmp_path, pair, call):
    (tmp_path / "texts").mkdir()
    for folder in (tmp_path / "texts", tmp_path / "nowhere"):
        code, _, err = call("merge", pair[0], folder)
        assert (code, err.count("\n")) == (2, 1)
        assert "no results folder" in err


def test_metrics_of_two_versions_are_refused_before_anything_is_written(pair, tmp_path):
    old = done().metrics["psnr"]
    put(pair[1], 5, metrics={"psnr": {**old, "version": 0}})
    with pytest.raises(BadData, match="more than one version"):
        merge(pair, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_merged_submission_holds(sound, tmp_path):
    halves = [tmp_path / "a", tmp_path / "b"]
    for number, path in enumerate(sorted(sound.glob("cases/*/*.*"))):
        target = halves[json.loads(path.with_suffix(".json").read_text())["case"]["images"][0]]
        (target / path.relative_to(sound)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target / path.relative_to(sound))
        assert number < 12
    merge(halves, tmp_path / "whole")
    assert contents(tmp_path / "whole" / "cases") == contents(sound / "cases")
    assert (tmp_path / "whole/leaderboard.csv").read_bytes() == (
        sound / "leaderboard.csv"
    ).read_bytes()
    assert check([tmp_path / "whole"]).faults == []


def ceiling(folder: Path, image: int, mse: float = 1e-3, seconds: float = 1.0) -> BoundRecord:
    case = BoundCase(
        bound=Part("local_gaussian", "local_gaussian", 1, {}),
        model=part("vit_vanilla"),
        control=None,
        weights="trained",
        weights_sha256="ab" * 32,
        defense=(Part("noise", "noise", 1, {}),),
        dataset=part("cifar10"),
        images=(image,),
        images_sha256=f"{image:064d}",
        seed=0,
    )
    record = BoundRecord(case, mse=mse, blind=0.06, seconds=seconds, unknowns=3, entries=9)
    BoundStore(folder).put(record)
    return record


def test_ceilings_come_along_and_their_tables_are_of_all(tmp_path):
    one, two, out = (tmp_path / name for name in ("one", "two", "out"))
    ceiling(one, 0, 1e-3)
    ceiling(two, 1, 1e-5)
    assert merge([one, two], out).taken == 2
    for place in ("bounds.csv", "joined/ceiling.csv"):
        [row] = pd.read_csv(out / place).to_dict("records")
        assert row["ceiling"] == pytest.approx(40.0), place
    assert "leaderboard.csv" not in contents(out)
    whole = contents(out)
    assert merge([two, one], out).taken == 0
    assert contents(out) == whole


def test_a_ceiling_is_the_same_to_four_digits_and_no_further(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    ceiling(one, 0, 1.23441e-3)
    ceiling(two, 0, 1.23443e-3, seconds=9.0)
    assert merge([one, two], tmp_path / "out").again == 1
    ceiling(two, 0, 1.25e-3)
    with pytest.raises(BadData, match="different results of one case"):
        merge([one, two], tmp_path / "other")


def test_prices_come_along_with_those_that_they_are_compared_with(tmp_path):
    """The table is of both: a price is the answers lost against the undefended training."""
    one, two, out = (tmp_path / name for name in ("one", "two", "out"))
    PriceStore(one).put(price("none", "1111"))
    PriceStore(two).put(price("prune", "1100"))
    assert merge([one, two], out).taken == 2
    table = pd.read_csv(out / "price.csv").set_index("defense")
    assert table.loc["prune", "price"] == pytest.approx(0.5)
    assert (out / "joined/price.csv").is_file()
