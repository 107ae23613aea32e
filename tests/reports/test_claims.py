"""A verdict follows from two figures and their intervals, and from nothing else."""

from pathlib import Path

import pytest

from privbench.errors import BadSetting
from privbench.reports.claims import Claim, Verdict, judged, page, read_paper
from privbench.victims.preset import preset_names, read_preset
from tests.commands import Call, caller

ROOT = Path(__file__).parents[2]
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
