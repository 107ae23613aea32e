"""Tables that come with records are what these give, and the records hold."""

import tarfile

import pytest

from privbench.records.store import Store
from privbench.reports.leaderboard import TABLE, leaderboard, to_csv
from privbench.submission.check import check
from tests.commands import Call, caller
from tests.pages import ROOT

ARCHIVES = sorted(ROOT.glob("results/*/records.tar.xz"))
BARE = {"standard"}
"""Folders whose archive leaves the answers out: of thousands of cases they take too much room."""


@pytest.fixture(scope="module", params=ARCHIVES, ids=lambda path: path.parent.name)
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """An archive, and the results folder that it holds."""
    folder = tmp_path_factory.mktemp("records")
    with tarfile.open(request.param) as file:
        file.extractall(folder, filter="data")
    return request.param, folder


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


def test_there_are_some():
    assert ARCHIVES


def test_a_committed_table_is_what_its_records_give(packed):
    archive, folder = packed
    due = to_csv(leaderboard(Store(folder).records()))
    assert (archive.parent / TABLE).read_bytes() == due


def test_a_committed_board_is_what_its_records_give(packed, call):
    archive, folder = packed
    code, out, _ = call("leaderboard", "--out", folder, "--format", "csv")
    assert code == 0
    assert (archive.parent / "board.csv").read_text(encoding="utf-8") == out


@pytest.mark.slow
def test_committed_records_have_no_faults_but_their_age(packed):
    archive, folder = packed
    known = {"component", "answer"} if archive.parent.name in BARE else {"component"}
    assert [one for one in check([folder]).faults if one.kind not in known] == []
