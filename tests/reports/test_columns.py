"""Every column of every table has a kind, and the interval follows from that alone."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap

from privbench.component import find, names
from privbench.evaluation import Evaluation
from privbench.kind import Kind, declared
from privbench.reports.columns import TABLES, interval, kind_of
from privbench.reports.leaderboard import leaderboard
from privbench.utility.compare import COLUMNS
from privbench.utility.robustness import mean_figure
from tests.sample_records import done

WITH_INTERVAL = (Kind.SHARE, Kind.PERCENT, Kind.MEAN, Kind.DIFFERENCE)
ZEROS_AND_ONES = st.lists(st.booleans().map(float), min_size=1, max_size=60)


@settings(deadline=None, max_examples=50)
@given(ZEROS_AND_ONES)
def test_a_share_and_a_percent_have_wilsons_interval(values: list[float]) -> None:
    wilson = binomtest(int(sum(values)), len(values)).proportion_ci(method="wilson")
    expected = (np.mean(values), wilson.low, wilson.high)
    assert interval(Kind.SHARE, values) == pytest.approx(expected)
    percent = interval(Kind.PERCENT, [100 * value for value in values])
    assert percent == pytest.approx([100 * one for one in expected])


@settings(deadline=None, max_examples=5)
@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0, 0.25]), min_size=2, max_size=30))
def test_differences_and_means_have_a_bootstrap_whatever_their_values(values: list[float]) -> None:
    for kind in (Kind.DIFFERENCE, Kind.MEAN):
        mean, low, high = interval(kind, values)
        assert mean == pytest.approx(np.mean(values))
        if len(set(values)) == 1:  # where all agree, no resample differs
            assert low == high == mean
            continue
        found = bootstrap(
            (values,),
            np.mean,
            method="percentile",
            n_resamples=10_000,
            batch=1000,
            rng=np.random.default_rng(0),
        ).confidence_interval
        assert (low, high) == pytest.approx((found.low, found.high), abs=1e-9)


def test_no_value_chooses_the_interval() -> None:
    right = np.zeros(100)
    figure: Any = mean_figure("cifar10_c_clean_error", right)
    assert figure["cifar10_c_clean_error_hi"] == pytest.approx(3.6995, abs=1e-3)  # percent
    one = np.r_[np.full(1, 100.0), np.zeros(9)]
    figure = mean_figure("cifar10_c_clean_error", one)
    wilson = binomtest(1, 10).proportion_ci(method="wilson")
    assert figure["cifar10_c_clean_error_lo"] == pytest.approx(100 * wilson.low)
    figure = mean_figure("cifar10_c_added_error", np.array([0.0, 1.0, 1.0, 1.0]))
    wilson = binomtest(3, 4).proportion_ci(method="wilson")
    assert figure["cifar10_c_added_error_lo"] != pytest.approx(wilson.low)
    assert figure["cifar10_c_added_error_hi"] == 1


@pytest.mark.parametrize("kind", [Kind.SHARE, Kind.PERCENT])
def test_other_numbers_are_no_share(kind: Kind) -> None:
    with pytest.raises(ValueError, match="numbers other than"):
        interval(kind, [0.5])
    assert all(math.isnan(value) for value in interval(kind, []))


@pytest.mark.parametrize("kind", sorted(set(Kind) - set(WITH_INTERVAL)))
def test_what_is_no_mean_over_pictures_has_no_such_interval(kind: Kind) -> None:
    with pytest.raises(ValueError, match="no mean over pictures"):
        interval(kind, [1.0])


@pytest.mark.parametrize("name", names(Evaluation.shelf))
def test_every_evaluation_declares_its_columns_as_the_tables_do(name: str) -> None:
    kinds = find(Evaluation, name).kinds
    assert kinds
    assert set(kinds.values()) <= set(WITH_INTERVAL)
    for pattern, kind in kinds.items():
        column = pattern.replace("*", "1")
        assert declared(kinds, column) == kind
        if (there := kind_of("accuracy", column)) is not None:
            assert there == kind


def columns_of(table: str) -> list[str]:
    """Columns that each table is written with, in the committed files or by hand."""
    if table == "leaderboard":
        return [*map(str, leaderboard([done()]).columns)]
    if table == "comparison":
        return list(COLUMNS)
    if table == "corruptions":
        from privbench.utility.cells import COLUMNS as CELLS

        return list(CELLS)
    return [*map(str, pd.read_csv(f"results/{table}.csv", nrows=1).columns)]


@pytest.mark.parametrize("table", TABLES)
def test_every_column_of_every_table_has_a_kind(table: str) -> None:
    found = columns_of(table)
    for column in found:
        kind = kind_of(table, column)
        assert kind is not None, column
        if f"{column}_lo" in found:
            assert kind in (*WITH_INTERVAL, Kind.FIGURE), column
            assert kind_of(table, f"{column}_lo") == kind_of(table, f"{column}_hi") == kind


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("imagenet_a_clean_top1", Kind.SHARE),
        ("imagenet_c_rel_mCE_hendrycks", Kind.DIFFERENCE),
        ("imagenet_c_mCE_hendrycks", Kind.MEAN),
        ("imagenet_c_mean_error", Kind.MEAN),
        ("cifar10_c_clean_error_hi", Kind.PERCENT),
        ("imagenet_o_aupr", Kind.FIGURE),
        ("imagenet_r_rms_released_lo", Kind.FIGURE),
        ("imagenet_o_inside_n", Kind.COUNT),
        ("agreement_n", Kind.COUNT),
    ],
)
def test_kinds_of_figures_that_no_committed_table_has(column: str, kind: Kind) -> None:
    assert kind_of("robustness", column) == kind
