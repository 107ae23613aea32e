"""What a look at a submission prints: a line for each sort of fault, and what is no fault."""

import json
from dataclasses import replace

import pytest

from privbench.submission.check import check
from privbench.submission.faults import Fault
from privbench.submission.sorts import SORTS, sorted_out
from tests.commands import Call, caller
from tests.submission.forging import forge, one


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


def older(number: int) -> Fault:
    sentence = f"is of version {number % 2} of pe_ls, older than version 5 here."
    return Fault(f"{number}.json", "component", sentence)


def test_a_forgery_does_not_drown_among_what_is_old():
    old = [older(number) for number in range(400)]
    lacking = [Fault(one.place, "score", "lacks lpips: add it.") for one in old]
    forged = Fault("x.json", "score", "says 31 for psnr; its answer has 21.")
    edited = [Fault(f"{n}.json", "seal", "was edited: its sha256 is another.") for n in "yz"]
    lines = [str(one) for one in sorted_out([*old, *lacking, forged, *edited])]
    assert [line.partition(" ")[0] for line in lines] == [
        "seal,",
        "x.json:",
        "score,",
        "component,",
    ]
    assert lines[0].startswith("seal, 2 times. y.json and z.json: was edited: its sha256 is ano")
    assert lines[1].startswith("x.json: says 31 for psnr; its answer has 21. ")
    assert lines[3].startswith(
        "component, 400 times. 0.json: is of version 0 of pe_ls, older than version 5 here. "
        "1.json: is of version 1 of pe_ls, older than version 5 here. "
    )
    assert "run the cases again here" in lines[3]
    some = [replace(forged, sentence=f"says {n} for psnr; its answer has 21.") for n in (1, 2, 3)]
    [line] = map(str, sorted_out(some))
    assert line.startswith("score, 3 times in 1 file. x.json: says 1 ")


def test_each_kind_of_fault_has_a_sort_for_whatever_its_sentence_says():
    kinds = {sort.kind for sort in SORTS}
    words = "file schema seal label component weights pictures score selection answer table missing"
    assert kinds == set(words.split())
    assert kinds == {sort.kind for sort in SORTS if not sort.begins}


def test_a_case_that_has_no_score_is_no_fault_and_is_told(submission, victims, call):
    record = one(submission)
    error = "ValueError: no"
    path = forge(submission, record, status="failed", error=error, scores={}, members={})
    found = check([submission], victims=victims)
    assert (found.records, found.sound, found.faults) == (4, 4, [])
    code, out, _ = call("check", path)
    assert code == 0
    assert f"Note. 1 case failed, first {path}: ValueError: no. A failed case is a part" in out
    assert "--retry-failed" in out
    forge(submission, record, status="refused", error=error, scores={}, members={})
    _, out, _ = call("check", path)
    assert f"Note. 1 case was refused, first {path}: {error}. No attack ran there" in out
    _, out, _ = call("check", path, "--json")
    assert json.loads(out)["lost"] == [{"place": str(path), "status": "refused", "error": error}]
