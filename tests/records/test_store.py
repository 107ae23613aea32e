"""A record is whole, its own and unedited, or it is not there."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privbench.errors import Unwritable
from privbench.records.case import Record
from privbench.records.sealed import seal, unseal
from privbench.records.store import Store, write
from tests.commands import contents
from tests.sample_records import case, done, lost, part

NUMBER = st.floats(allow_nan=True, allow_infinity=True)


def finite(value):
    return value if value == value and abs(value) != float("inf") else None


@settings(max_examples=60, deadline=None)
@given(scores=st.lists(NUMBER, min_size=1), objective=NUMBER, error=st.none() | st.text())
def test_a_record_comes_back_as_it_was_but_for_nan_and_infinity(scores, objective, error):
    record = replace(done(scores, images=(3,)), objective=objective, error=error)
    again = Record.from_json(record.to_json())
    assert again.scores == {"psnr": [finite(value) for value in scores]}
    assert again.objective == finite(objective)
    assert replace(again, scores={}, objective=None) == replace(record, scores={}, objective=None)
    assert again.to_json() == record.to_json()


def test_nothing_but_strict_json_is_written():
    text = done([float("nan"), float("inf")]).to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_labels_and_control_decide_nothing():
    plain = case()
    assert case(control=None).key == plain.key
    renamed = replace(plain.attack, label="another name in the table")
    assert replace(plain, attack=renamed).key == plain.key


@pytest.mark.parametrize(
    "other",
    [
        case(attack="dlg"),
        case(attack=part("pe_ls", version=2)),
        case(attack=part("pe_ls", threshold=1e-9)),
        case(model=part("vit_mjp", version=2)),
        case(model=part("vit_mjp", ratio=0.5)),
        case(weights_sha256="cd" * 32),
        case(defense=["noise"]),
        case(defense=["none", "none"]),
        case(images=(1,)),
        case(knows=["labels"]),
        case(dataset="photos"),
        case(seed=1),
        replace(case(), images_sha256="other pixels under the same number"),
    ],
    ids=lambda other: other.attack.label,
)
def test_all_that_decides_the_answer_is_in_the_key(other):
    assert other.key != case().key


def spoil_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil_score(path):
    path.write_text(path.read_text().replace("10.0", "99.0"))


def spoil_case(path):
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 7'))


def spoil_schema(path):
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))


def spoil_owner(path):
    path.write_text(done(images=(5,)).to_json())


SPOILERS = {
    "torn": spoil_half,
    "of an edited score": spoil_score,
    "of an edited case": spoil_case,
    "of another schema": spoil_schema,
    "another case's": spoil_owner,
    "empty": lambda path: path.write_bytes(b""),
    "a number": lambda path: path.write_text("3"),
    "a list": lambda path: path.write_text("[]"),
    "someone else's mapping": lambda path: path.write_text('{"name": "x"}'),
    "not text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("kind", SPOILERS)
def test_a_spoiled_record_is_missing_until_it_is_written_anew(kind, tmp_path):
    store, record, other = Store(tmp_path), done(), done(images=(1,))
    store.put(record)
    store.put(other)
    before = store.path(record.case).read_bytes()
    SPOILERS[kind](store.path(record.case))
    assert store.path(record.case).read_bytes() != before
    assert store.get(record.case) is None
    assert list(store.records()) == [other]
    assert store.broken() == [store.path(record.case)]
    store.put(record)
    assert store.get(record.case) == record
    assert not store.broken()


def test_a_folder_in_the_place_of_a_record_is_no_record(tmp_path):
    store = Store(tmp_path)
    store.path(case()).mkdir(parents=True)
    assert store.get(case()) is None
    assert not list(store.records())


def test_records_come_in_an_order_that_depends_on_their_content_alone(tmp_path):
    found = [done(images=(i,)) for i in range(6)]
    orders = []
    for name, order in (("a", found), ("b", found[::-1])):
        for record in order:
            Store(tmp_path / name).put(record)
        orders.append(list(Store(tmp_path / name).records()))
    assert orders[0] == orders[1]
    assert len(orders[0]) == 6


def test_the_picture_precedes_the_record(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(
        "privbench.records.store.write", lambda path, _: written.append(path.suffix)
    )
    Store(tmp_path).put(done(), b"picture")
    assert written == [".png", ".json"]


def test_no_picture_no_record(tmp_path, monkeypatch):
    def full(path, content):
        if path.suffix == ".png":
            raise Unwritable("full")
        write(path, content)

    monkeypatch.setattr("privbench.records.store.write", full)
    with pytest.raises(Unwritable):
        Store(tmp_path).put(done(), b"picture")
    assert Store(tmp_path).get(done().case) is None


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_loses_nothing_and_says_so(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.put(done(), b"picture")
    before = contents(tmp_path)
    monkeypatch.setattr("os.fsync", no_space)
    for record in (done(images=(1,)), done([99.0])):
        with pytest.raises(Unwritable) as error:
            store.put(record, b"another")
        assert "No space left on device" in str(error.value)
        assert "earlier results are kept" in str(error.value)
        assert "--out" in str(error.value)
    assert contents(tmp_path) == before, "neither a torn file nor a .part file"


def test_an_interrupt_leaves_no_part_file(tmp_path, monkeypatch):
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "table.csv", b"a,b\n")
    assert not list(tmp_path.iterdir())


def test_files_are_as_readable_as_the_user_wants_them(tmp_path):
    before = os.umask(0o022)
    try:
        write(tmp_path / "table.csv", b"a,b\n")
    finally:
        os.umask(before)
    assert (tmp_path / "table.csv").stat().st_mode & 0o777 == 0o644


WRITER = """
import sys
from pathlib import Path
from privbench.records.store import Store
from tests.sample_records import done
for _ in range(20):
    for image in range(10):
        Store(Path(sys.argv[1])).put(done(images=(image,)), b"x" * 20_000)
        assert not Store(Path(sys.argv[1])).broken()
"""


def test_two_writers_at_once_leave_only_whole_records(tmp_path):
    root = Path(__file__).parents[2]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], cwd=root) for _ in range(2)
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(list(Store(tmp_path).records())) == 10
    assert {path.rpartition(".")[2] for path in contents(tmp_path)} == {"json", "png"}


def test_a_failed_record_keeps_its_error(tmp_path):
    Store(tmp_path).put(lost(error="ValueError: [/x] ünd\n'\""))
    [found] = Store(tmp_path).records()
    assert found.error == "ValueError: [/x] ünd\n'\""
    assert found.status == "failed"


def test_a_record_of_an_earlier_time_is_read(tmp_path):
    content = json.loads(done().to_json())
    del content["sha256"], content["schema"], content["answers_sha256"], content["case"]["nested"]
    path = Store(tmp_path).path(done().case)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(seal(content), indent=1, sort_keys=True))
    assert list(Store(tmp_path).records()) == [done()]


@settings(max_examples=40, deadline=None)
@given(text=st.text())
def test_the_digest_of_the_text_is_that_of_the_content(text):
    record = done_with(text)
    assert Record.from_json(record.to_json()) == record
    compact = json.dumps(json.loads(record.to_json()))
    assert Record.from_json(compact) == record, "however it is laid out"


def done_with(text):
    return replace(done(), warnings=(text, '\n "sha256": "' + "0" * 64 + '",'), choice=text)


def test_nested_attacks_decide_the_answer_where_there_are_any():
    assert replace(case(), nested={"pe_ls": 2}).key != case().key
    assert replace(case(), nested={}).key == case().key


def test_a_case_at_hand_spares_the_key_and_hides_no_forgery(tmp_path):
    record = done()
    assert Record.from_json(record.to_json(), record.case) == record
    other = done(seed=1)
    assert Record.from_json(other.to_json(), record.case) == other, "it is only a help"
    content = unseal(record.to_json())
    content["case"]["seed"] = 1
    forged = json.dumps(seal(content), indent=1, sort_keys=True)
    for asked in (None, record.case, other.case):
        with pytest.raises(ValueError, match="key does not fit"):
            Record.from_json(forged, asked)
