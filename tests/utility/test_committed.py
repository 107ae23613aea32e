"""Tables of accuracy and robustness come with their records, and are what these give."""

import tarfile
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from privbench.records.utility import UtilityStore
from privbench.utility.run import write_tables
from tests.commands import caller
from tests.pages import ROOT

RESULTS = ROOT / "results"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records."""
    path = tmp_path_factory.mktemp("utility")
    with tarfile.open(RESULTS / "utility.tar.xz") as file:
        file.extractall(path, filter="data")
    return path


@pytest.fixture(scope="module")
def made(folder: Path) -> Path:
    """The records, and the tables that they give."""
    write_tables(UtilityStore(folder))
    return folder


def same(table: str, folder: Path) -> None:
    """The ends of an interval may lie half way between two last digits."""
    due, found = (pd.read_csv(place / table) for place in (RESULTS, folder))
    assert_frame_equal(found, due, check_exact=False, rtol=2e-5)


@pytest.mark.parametrize("table", ["accuracy.csv", "robustness.csv"])
def test_a_committed_table_is_what_its_records_give(table, made):
    same(table, made)


@pytest.mark.slow
def test_the_committed_comparison_is_what_its_records_give(folder, monkeypatch, capsys):
    code, _, _ = caller(monkeypatch, capsys)("compare", "vit_vanilla", "vit_mjp", "--out", folder)
    assert code == 0
    same("comparison.csv", folder)
