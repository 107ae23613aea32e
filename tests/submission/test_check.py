"""A submission that holds has no fault; each way to spoil one is told in a sentence."""

import json
from dataclasses import replace

import numpy as np
import pytest

from privbench.records.answers import Answers, unpack
from privbench.records.case import Record
from privbench.records.sealed import seal
from privbench.records.store import Store
from privbench.records.utility import UtilityRecord, UtilityStore
from privbench.running.suite import Suite
from privbench.submission.answered import answer_faults
from privbench.submission.check import check
from tests.commands import Call, caller
from tests.sample_records import accuracy_case
from tests.submission.conftest import GIVEN
from tests.submission.forging import forge, forge_again, one, swap


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


def raised(scores: object, by: float = 10.0) -> dict[str, list[float | None]]:
    assert isinstance(scores, dict)
    return scores | {"psnr": [value + by for value in scores["psnr"]]}


def case_with(record: Record, **changes: object) -> dict[str, object]:
    return {"case": replace(record.case, **changes)}


def part_with(record: Record, field: str, **changes: object) -> dict[str, object]:
    return case_with(record, **{field: replace(getattr(record.case, field), **changes)})


def test_what_a_run_leaves_has_no_fault(sound):
    findings = check([sound], Suite.build(GIVEN))
    assert (findings.records, findings.faults) == (4, [])
    assert (findings.unseen, findings.unbuilt) == (0, 0)


def other_member(record: Record) -> str:
    return next(name for name in record.members if name != record.choice)


FORGERIES = {
    "psnr;score;says": lambda r: {"scores": raised(r.scores)},
    "floor;score;mean color": lambda r: {"floor": raised(r.floor)},
    "member;score;of member mean": lambda r: {
        "members": {n: raised(s) if n == "mean" else s for n, s in r.members.items()}
    },
    "cap;score;beyond its cap": lambda r: {"scores": raised(r.scores, 200.0)},
    "NaN;score;NaN or infinity": lambda r: {"scores": {**r.scores, "psnr": [float("nan")]}},
    "below zero;score;below 0": lambda r: {"scores": {**r.scores, "mse": [-0.5]}},
    "length;score;2 values of psnr for 1": lambda r: {
        "scores": {**r.scores, "psnr": [10.0, 10.0]},
        "members": {},
    },
    "lacks a metric;score;lacks ssim": lambda r: {
        "scores": {n: v for n, v in r.scores.items() if n != "ssim"}
    },
    "metric version;component;metric psnr of another version": lambda r: {
        "metrics": {**r.metrics, "psnr": {**r.metrics["psnr"], "version": 99}}
    },
    "masked;answer;treated patches": lambda r: {"masked": (1,)},
    "n;score;its clients have": lambda r: case_with(r, threat={**r.case.threat, "batch_size": 2}),
    "failed;score;has scores although": lambda r: {"status": "failed", "error": "ValueError: no"},
    "silent;score;does not say why": lambda r: {"status": "failed", "scores": {}, "members": {}},
    "no time;score;less than no time": lambda r: {"seconds": -1.0},
    "labels;score;of the labels": lambda r: {"label_accuracy": 0.4},
    "choice;selection;none of its members": lambda r: {"choice": "oracle"},
    "by truth;selection;by the truth": lambda r: {
        "choice": other_member(r),
        "report": {**r.report, f"distance_{other_member(r)}": 99.0, "certified": 0.0},
        "objective": 99.0,
    },
    "objective;selection;its choice reached": lambda r: {"objective": 1e-9},
    "weights;weights;those that come along": lambda r: case_with(r, weights_sha256="0" * 64),
    "pictures;pictures;other pictures": lambda r: case_with(r, images_sha256="0" * 64),
    "number;pictures;other pictures": lambda r: case_with(r, images=(7,)),
    "version;component;older than": lambda r: part_with(r, "attack", version=1),
    "newer;component;newer than": lambda r: part_with(r, "attack", version=99),
    "nested;component;other versions of pe_ls": lambda r: case_with(
        r, nested={**r.case.nested, "pe_ls": 99}
    ),
    "unknown;component;No attack is called": lambda r: part_with(r, "attack", name="autoo"),
    "setting;component;setting of auto": lambda r: part_with(r, "attack", settings={"teir": "x"}),
    "row;label;what its settings make": lambda r: part_with(r, "attack", label="auto"),
    "victim's row;label;with other settings": lambda r: part_with(
        r, "model", settings={**r.case.model.settings, "ratio": 0.1}
    ),
    "data set's row;label;is the data set cifar10": lambda r: part_with(
        r, "dataset", label="imagenet"
    ),
    "html;label;HTML in a title": lambda r: part_with(
        r, "attack", label="auto<script>alert(1)</script>"
    ),
    "control;label;is compared with vit_mjp, and": lambda r: case_with(r, control="vit_mjp"),
    "no control;label;is compared with None": lambda r: case_with(r, control=None),
    "threat;schema;a threat model that is none: knows": lambda r: case_with(
        r, threat={**r.case.threat, "knows": ["truth"]}
    ),
    "threat's word;label;foo in its threat model": lambda r: case_with(
        r, threat={**r.case.threat, "foo": "bar"}
    ),
    "no defense;component;names no defense": lambda r: case_with(r, defense=()),
    "seed;answer;seed 5 does not draw": lambda r: case_with(r, seed=5),
    "path;label;a place and not a file's name": lambda r: case_with(r, weights="../w"),
    "renamed;weights;they are its 'trained' ones": lambda r: case_with(r, weights="init"),
    "silent member;selection;how near its member mean came": lambda r: {
        "report": {k: v for k, v in r.report.items() if k != "distance_mean"}
    },
    "by nothing;selection;how near its member mean came": lambda r: {"report": {}},
    "half a proof;selection;proved in part": lambda r: {"report": {**r.report, "certified": 0.5}},
    "no proof;answer;counts as proved": lambda r: {"report": {**r.report, "certified": 1.0}},
    "unreached;selection;its choice reached inf": lambda r: {
        "report": {**r.report, **{k: None for k in r.report if k.startswith("distance_")}}
    },
    "an age;score;longer than there are computers": lambda r: {"seconds": 1e308},
    "terminal;label;control character": lambda r: {"warnings": ("\x1b[2J",)},
    "endless;label;a text of 20000 letters": lambda r: {"warnings": ("x" * 20_000,)},
    "no answers;answer;no answers were stored": lambda r: {"answers_sha256": ""},
    "other answers;answer;missing or was edited": lambda r: {"answers_sha256": "0" * 64},
}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forgery_is_told_in_a_sentence(what, submission, victims):
    _, kind, words = what.split(";")
    record = one(submission)
    path = forge(submission, record, **FORGERIES[what](record))
    found = check([path], victims=victims)
    assert found.records == 1
    told = [fault for fault in found.faults if fault.kind == kind and words in fault.sentence]
    assert told, found.faults
    for fault in found.faults:
        assert fault.sentence.endswith(".")
        assert "\n" not in fault.sentence


SWAPS = {
    "score;says": lambda a: {"images": np.full_like(a.images, 0.5)},
    "selection;none of its members'": lambda a: {"images": np.full_like(a.images, 0.5)},
    "answer;picture beside it": lambda a: {"images": np.full_like(a.images, 0.5)},
    "answer;another mean color": lambda a: {"mean": np.zeros_like(a.mean)},
    "answer;no pictures of its batch": lambda a: {"images": a.images + 2},
    "answer;other members": lambda a: {"members": {}},
    "answer;its mask has": lambda a: {"mask": ~a.mask},
    "answer;does not draw": lambda a: {"entered": a.entered[..., ::-1].copy()},
}


@pytest.mark.parametrize("what", SWAPS)
def test_answers_that_were_not_scored_are_told(what, submission, victims):
    kind, words = what.split(";")
    found = check([swap(submission, SWAPS[what])], victims=victims)
    assert [f for f in found.faults if f.kind == kind and words in f.sentence], found.faults


def test_an_answer_of_other_patches_is_not_called_moved(submission, victims):
    path = swap(submission, lambda a: {"images": a.members["mean"]})
    record = Record.from_json(path.read_text())
    forged = forge_again(path, record, report={**record.report, "moved": 0.5})
    told = [one.sentence for one in check([forged], victims=victims).faults]
    assert any("has other patches than that member found" in one for one in told), told


def test_patches_in_another_order_are(submission, victims):
    def turned(answers: Answers) -> dict[str, object]:
        rows = np.split(answers.images, answers.images.shape[2] // answers.patch, axis=2)
        return {"images": np.concatenate(rows[::-1], axis=2)}

    path = swap(submission, turned)
    record = Record.from_json(path.read_text())
    forged = forge_again(path, record, report={**record.report, "moved": 1.0})
    assert not [f for f in check([forged], victims=victims).faults if f.kind == "selection"]


@pytest.mark.parametrize("inner", [False, True])
def test_pixels_move_inside_patches_only_where_the_defense_moves_them(inner, submission):
    def mirrored(answers: Answers) -> dict[str, object]:
        return {"images": answers.images[..., ::-1].copy()}

    path = swap(submission, mirrored)
    record = replace(Record.from_json(path.read_text()), report={"moved": 1.0})
    answers = unpack(path.with_suffix(".npz").read_bytes(), record.answers_sha256)
    assert answers is not None
    told = [kind for kind, _ in answer_faults(record, answers, inner=inner)]
    assert ("selection" in told) is not inner


@pytest.mark.parametrize(
    ("odd", "faults"), [({"mean": 1.0, "pe_ls": 0.5}, 0), ({"mean": 0.5, "pe_ls": 1.0}, 1)]
)
def test_who_goes_by_two_measures_may_trade_one_for_the_other(odd, faults, submission, victims):
    record = one(submission)
    assert record.choice == "pe_ls"
    report = {**record.report, "distance_mean": 0.1}
    report |= {f"surprise_{name}": value for name, value in odd.items()}
    path = forge(submission, record, report=report)
    found = [f for f in check([path], victims=victims).faults if "by the truth" in f.sentence]
    assert len(found) == faults


ASKED = {
    "by HTML": ["cifar10<b>", "", ""],
    "its pictures are of cifar10": ["imagenet", ""],
    "which is 'standard": ["cifar10", "", "standard 1 [deadbeef]"],
}


@pytest.mark.parametrize("words", ASKED)
def test_a_name_that_nobody_asked_by_is_told(words, submission, victims):
    (submission / "leaderboard.csv").unlink()
    content = seal({"asked": {one(submission).case.key: ASKED[words]}})
    (submission / "asked").mkdir(exist_ok=True)
    path = submission / "asked" / "x.json"
    path.write_text(json.dumps(content))
    [fault] = check([submission], victims=victims).faults
    assert (fault.place, fault.kind) == (str(path), "label")
    assert words in fault.sentence
    path.write_text("[" * 100_000)
    [fault] = check([submission], victims=victims).faults
    assert "is torn" in fault.sentence


def test_a_case_that_its_suite_has_not_is_told(submission, tmp_path, victims):
    (submission / "leaderboard.csv").unlink()
    file = tmp_path / "mine.yaml"
    file.write_text("version: 1\nattack: mean\nmodel: vit_mjp\nimages: 2\n")
    suite = Suite.build({}, str(file))
    content = {"asked": {one(submission).case.key: ["cifar10", "", suite.label]}}
    (submission / "asked").mkdir(exist_ok=True)
    (submission / "asked" / "x.json").write_text(json.dumps(seal(content)))
    [fault] = check([submission], suite, victims=victims).faults
    assert "which has no such case" in fault.sentence


TORN = {
    "file;breaks off": lambda text: text[: len(text) // 2],
    "file;is no JSON": lambda text: "attack: mean\nmodel: x\n",
    "file;no text": lambda text: b"\xff\xfe\x00",
    "file;is no JSON: NaN": lambda text: text.replace('"objective": ', '"objective": NaN, "x": '),
    "schema;counts more than can be counted": lambda text: resealed(text, gradient_calls=10**400),
    "schema;schema 99": lambda text: text.replace('"schema": 1', '"schema": 99'),
    "schema;another kind": lambda text: '{"name": "x"}',
    "schema;no case": lambda text: '{"schema": 1, "case": {}}',
    "seal;was edited": lambda text: text.replace('"seed": 0', '"seed": 1'),
    "schema;field that does not fit: seconds": lambda text: resealed(text, seconds="long"),
    "seal;another name": lambda text: resealed(text, key=None),
}


def resealed(text: str, **changes: object) -> str:
    content = json.loads(text)
    if "key" in changes:
        content["case"]["seed"] = 9
        case = Record.CASE.read(json.loads(text)["case"])
        changes = {"key": replace(case, seed=9).key}  # type: ignore[type-var]
    del content["sha256"]
    return json.dumps(seal({k: v for k, v in (content | changes).items() if k != "schema"}))


@pytest.mark.parametrize("what", TORN)
def test_a_file_that_is_no_record_is_told_in_a_sentence(what, submission, victims):
    kind, words = what.split(";")
    path = Store(submission).path(one(submission).case)
    spoiled = TORN[what](path.read_text())
    path.write_bytes(spoiled if isinstance(spoiled, bytes) else spoiled.encode())
    found = check([path], victims=victims)
    [fault] = found.faults
    assert (found.records, fault.kind, fault.place) == (0, kind, str(path))
    assert words in fault.sentence


def test_a_number_typed_into_the_table_is_told(submission):
    table = submission / "leaderboard.csv"
    row = table.read_text().splitlines()[1]
    psnr = row.split("cifar10")[1].split(",")[8]
    table.write_text(table.read_text().replace(psnr, "31.4", 1))
    [fault] = check([submission]).faults
    assert fault.kind == "table"
    assert "31.4 instead of" in fault.sentence


def test_a_missing_case_of_a_suite_is_named(submission):
    Store(submission).path(one(submission, "mean").case).unlink()
    (submission / "leaderboard.csv").unlink()
    [fault] = check([submission], Suite.build(GIVEN)).faults
    assert (fault.kind, fault.place) == ("missing", "mean on vit_mjp with none, image 0")


def test_two_results_of_one_case_are_told_with_both_places(submission, tmp_path):
    record = one(submission, "mean")
    again = Store(tmp_path / "again")
    content = Store(submission).path(record.case, ".npz").read_bytes()
    again.put(replace(record, seconds=99.0), b"", content)
    found = check([submission, tmp_path / "again"])
    assert [f for f in found.faults if "another result" in f.sentence and "results" in f.sentence]
    assert not [f for f in check([submission, submission]).faults if f.kind == "seal"]


def utility(**changes: object) -> UtilityRecord:
    case = accuracy_case()
    record = UtilityRecord(case, {"top1": [1.0, 0.0]}, 1.0, kinds={"top1": "share"})
    return replace(record, **changes)


def test_a_share_of_half_a_picture_is_told(tmp_path):
    UtilityStore(tmp_path).put(utility(values={"top1": [1.0, 0.5]}))
    assert any("other than 0 and 1" in fault.sentence for fault in check([tmp_path]).faults)


def test_the_command_has_exit_codes_and_a_form_for_programs(submission, call):
    code, out, err = call("check", submission)
    assert (code, err) == (0, "")
    assert out == "4 sound records, no faults.\n"
    record = one(submission)
    forge(submission, record, scores=raised(record.scores))
    code, out, _ = call("check", submission)
    assert code == 1
    assert out.splitlines()[0].startswith(f"{Store(submission).path(record.case)}: says ")
    assert out.splitlines()[-1] == "4 records, 3 of them sound; 1 fault."
    code, out, _ = call("check", Store(submission).path(record.case), "--json")
    content = json.loads(out)
    assert code == 1
    assert [content["records"], content["faults"][0]["kind"]] == [1, "score"]
    assert (content["sound"], content["lost"]) == (0, [])
    code, _, err = call("check", submission / "nowhere")
    assert (code, err.count("\n")) == (2, 1)
    assert "no file or folder" in err
    (submission / "empty").mkdir()
    code, _, err = call("check", submission / "empty")
    assert (code, err.count("\n")) == (2, 1)
    code, _, err = call("check", submission, "--suite", "nonsense")
    assert code == 2
