"""A verdict follows from two figures and their intervals, and from nothing else."""

from pathlib import Path

import pytest

from privbench.errors import BadData, BadSetting
from privbench.reports.claims import Claim, Result, Verdict, judged, page, read_paper
from privbench.victims.preset import preset_names, read_preset
from tests.commands import Call, caller

ROOT = Path(__file__).parents[2]
NEAR = 5.0
"""Decibels from the cap at which a few other pictures could undo a verdict."""
TABLE = """model,n,psnr,psnr_lo,psnr_hi,psnr_floor
low,8,10,9,11,9.5
high,8,50,45,55,9.5
wide,8,30,10,46,9.5
exact,8,100,100,100,9.5
same,8,100,100,100,9.5
single,1,10,,,9.5
empty,8,,,,
"""


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "board.csv").write_text(TABLE)
    return tmp_path


def place(model):
    if isinstance(model, float):
        return {"value": model, "of": "the paper"}
    return {"table": "board.csv", "row": {"model": model}, "column": "psnr"}


def compared(first, expect, second, **given):
    return {
        "what": "a test",
        "expect": expect,
        "first": place(first),
        "second": place(second),
        **given,
    }


def verdict(out, *tests):
    content = {"id": "C1", "says": "It is so.", "tests": list(tests)}
    return judged(Claim.model_validate(content), out)[0]


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (("low", "lower", "high"), Verdict.UPHELD),
        (("low", "higher", "high"), Verdict.REFUTED),
        (("high", "higher", "low"), Verdict.UPHELD),
        (("low", "not higher", "high"), Verdict.UPHELD),
        (("low", "not lower", "high"), Verdict.REFUTED),
        (("high", "lower", "wide"), Verdict.OPEN),
        (("high", "not lower", "wide"), Verdict.OPEN),
        (("exact", "higher", "same"), Verdict.REFUTED),
        (("exact", "lower", "same"), Verdict.REFUTED),
        (("low", "lower", 19.27), Verdict.UPHELD),
        (("nobody", "lower", "high"), Verdict.OPEN),
        (("empty", "lower", "high"), Verdict.OPEN),
        (("single", "lower", "high"), Verdict.OPEN),
        (("single", "not lower", 9.0), Verdict.OPEN),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else str(value),
)
def test_intervals_decide_and_overlap_decides_nothing(out, test, expected):
    assert verdict(out, compared(*test)) == expected


def test_a_control_that_does_not_leak_shows_nothing(out):
    assert verdict(out, compared("low", "lower", "high", control=True)) == Verdict.UPHELD
    assert verdict(out, compared("high", "higher", "low", control=True)) == Verdict.OPEN


def test_one_training_each_decides_nothing_about_ways_of_training(out):
    test = compared("low", "lower", "high", single=True)
    assert verdict(out, test) == Verdict.OPEN
    claim = {"id": "C1", "says": "It is so.", "tests": [test]}
    paper = read_paper({"title": "x", "sources": ["y"], "claims": [claim]}, "mine")
    assert "a test (one training each)" in page(paper, out)


@pytest.mark.parametrize(
    ("p", "expected"), [("0.0310", Verdict.UPHELD), ("1.0000", Verdict.OPEN), ("", Verdict.UPHELD)]
)
def test_a_difference_that_no_paired_test_sees_decides_nothing(tmp_path, p, expected):
    """However far its interval is from 0, as that of four pictures of twenty-four is."""
    table = f"model,n,lost,lost_lo,lost_hi,lost_p\nshuffled,24,12.0,1.9,23.9,{p}\n"
    (tmp_path / "board.csv").write_text(table)
    first = place("shuffled") | {"column": "lost"}
    test = {"what": "a test", "expect": "higher", "first": first, "second": {"value": 0}}
    assert verdict(tmp_path, test) == expected
    claim = {"id": "C1", "says": "It is so.", "tests": [test]}
    text = page(read_paper({"title": "x", "sources": ["y"], "claims": [claim]}, "mine"), tmp_path)
    assert f"(1.9 to 23.9, n = 24{f', p = {float(p):g}' if p else ''})" in text


def test_a_claim_has_the_verdict_of_its_tests(out):
    upheld, refuted = compared("low", "lower", "high"), compared("low", "higher", "high")
    unknown = compared("nobody", "lower", "high")
    assert verdict(out) == Verdict.OPEN
    assert verdict(out, upheld, upheld) == Verdict.UPHELD
    assert verdict(out, refuted, refuted) == Verdict.REFUTED
    assert verdict(out, upheld, unknown) == Verdict.UPHELD_PARTLY
    assert verdict(out, upheld, refuted, unknown) == Verdict.REFUTED_PARTLY


def test_a_missing_table_makes_no_verdict(tmp_path):
    assert verdict(tmp_path, compared("low", "lower", "high")) == Verdict.OPEN


def test_missing_tables_are_named_and_without_any_there_is_no_page(out, tmp_path, call):
    tests = [compared("low", "lower", "high"), compared("low", "lower", 19.27)]
    tests[1]["first"] |= {"table": "study/pe.csv"}
    claim = {"id": "C1", "says": "It is so.", "tests": tests, "command": "privbench study pe"}
    content = {"title": "A paper", "sources": ["y"], "claims": [claim]}
    assert "Tables that are missing here: study/pe.csv." in page(read_paper(content, "mine"), out)
    printed = claim | {"tests": [compared(1.0, "lower", 2.0)]}
    paper = read_paper(content | {"claims": [printed]}, "mine")
    assert "Tables that" not in page(paper, tmp_path / "nowhere"), "none is needed"
    with pytest.raises(BadData, match=r"none of the tables .* A paper .*: board.csv, study/pe.csv"):
        page(read_paper(content, "mine"), tmp_path / "nowhere")
    code, text, err = call("claims", "mjp", "--out", tmp_path / "nowhere")
    assert (code, text) == (2, "")
    assert "`privbench study pe --model vit_vanilla`" in err


@pytest.mark.parametrize(
    "content", [{}, {"title": "x", "sources": [], "claims": []}, {"titel": "x"}], ids=str
)
def test_a_file_that_is_no_paper_is_refused(content):
    with pytest.raises(BadSetting, match="mine: '"):
        read_paper(content, "mine")


@pytest.mark.parametrize("name", preset_names("papers"))
def test_every_table_that_a_claim_reads_is_there(name):
    paper = read_paper(read_preset("papers", name), name)
    tables = {
        figure.table
        for claim in paper.claims
        for test in claim.tests
        for figure in (test.first, test.second)
        if figure.table
    }
    assert tables
    assert all((ROOT / "results" / table).is_file() for table in tables), tables
    for claim in paper.claims:
        for one in judged(claim, ROOT / "results")[1]:
            assert one.first is not None, (claim.id, one.test.what)
            assert one.second is not None, (claim.id, one.test.what)
            assert one.verdict == Verdict.OPEN or not hangs(one), (claim.id, one.test.what)


def hangs(one: Result) -> bool:
    """Whether an interval without width, as of pictures all at the cap, is near the other's end."""
    sides = [(one.first, one.second), (one.second, one.first)]
    return any(
        flat.n and flat.low == flat.high == 100 and other.low < other.high
        for flat, other in sides
        if flat and other and abs(flat.value - other.high) < NEAR
    )


def test_the_page_on_the_paper_is_not_stale(call):
    """`make docs` mends it."""
    paper = read_paper(read_preset("papers", "mjp"), "mjp")
    text = page(paper, ROOT / "results")
    assert (ROOT / "docs" / "paper.md").read_text(encoding="utf-8") == text
    assert [claim.id for claim in paper.claims] == [f"C{i}" for i in range(1, 14)]
    code, printed, _ = call("claims", "mjp", "--out", ROOT / "results")
    assert (code, printed) == (0, text)


def test_an_unknown_paper_is_named(call):
    code, _, err = call("claims", "mjb")
    assert code == 2
    assert "Did you mean 'mjp'?" in err
