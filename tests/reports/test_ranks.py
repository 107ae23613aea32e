"""Ranks share places where no test tells rows apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privbench.reports.ranks import MOST_ROWS, Rank, paired, ranks
from privbench.reports.stats import sign_flip


def units(values, start=0):
    return {f"picture {start + i}": float(value) for i, value in enumerate(values)}


def drawn(n, shift=0.0, seed=0):
    return np.random.default_rng(seed).normal(shift, 1.0, n)


@pytest.mark.parametrize("n", [2, 5, 8, 13])
def test_few_units_have_the_exact_p_of_scipy(n):
    rows = [units(drawn(n, seed=seed)) for seed in range(3)]
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = [sign_flip([rows[a][unit] - rows[b][unit] for unit in rows[a]]) for a, b in pairs]
    assert paired(rows, pairs) == pytest.approx(expected, rel=1e-12)


def test_many_units_have_about_the_p_of_scipy():
    rows = [units(drawn(60)), units(drawn(60, 0.3, seed=1))]
    expected = sign_flip([rows[0][unit] - rows[1][unit] for unit in rows[0]])
    assert 0.001 < expected < 0.9
    assert paired(rows, [(0, 1)]) == pytest.approx([expected], abs=0.02)


def test_pairs_are_compared_on_the_pictures_that_both_have():
    one, other = units([1, 2, 3, 50]), units([1, 2, 3])
    assert paired([one, other], [(0, 1)]) == [1.0]
    assert np.isnan(paired([one, units([1], start=9)], [(0, 1)])[0])


def test_equal_rows_share_every_place():
    rows = [units(drawn(24))] * 3
    assert ranks(rows) == [Rank(1, 3)] * 3
    assert str(Rank(1, 3)) == "1-3"


def test_rows_that_differ_on_every_picture_have_places_of_their_own():
    rows = [units(drawn(24) + shift) for shift in (0.0, 20.0, 10.0)]
    assert ranks(rows) == [Rank(3, 3), Rank(1, 1), Rank(2, 2)]


def test_a_row_between_two_others_may_share_places_with_both():
    low, high = drawn(24), drawn(24) + 9.0
    between = np.where(np.arange(24) % 2, low, high)
    found = ranks([units(low), units(high), units(between)])
    assert found[0] is not None
    assert found[0].first == 3
    assert found[1] == Rank(1, 1)


def test_four_pictures_can_never_tell_rows_apart():
    rows = [units(np.full(4, shift)) for shift in (0.0, 100.0)]
    assert ranks(rows) == [Rank(1, 2), Rank(1, 2)]


def test_a_row_without_scores_has_no_rank():
    assert ranks([units(drawn(24)), {}]) == [Rank(1, 1), None]


def test_more_rows_than_any_number_of_draws_tells_apart_have_no_ranks():
    rows = [units(drawn(24) + i) for i in range(MOST_ROWS + 1)]
    assert set(ranks(rows)) == {None}


@settings(max_examples=15, deadline=None)
@given(shifts=st.lists(st.sampled_from([0.0, 0.5, 3.0, 9.0]), min_size=1, max_size=6))
def test_the_order_of_rows_changes_no_rank(shifts):
    rows = [units(drawn(16, shift, seed)) for seed, shift in enumerate(shifts)]
    assert ranks(rows[::-1]) == ranks(rows)[::-1]
    for rank in ranks(rows):
        assert rank is not None
        assert 1 <= rank.first <= rank.last <= len(rows)


@pytest.mark.slow
def test_the_paired_test_is_wrong_in_five_percent_where_nothing_differs():
    """Skewed differences of mean zero, whose signs are symmetric: 5 % of p are below 0.05."""
    rng, trials = np.random.default_rng(0), 2000
    for n in (8, 24, 100):
        wrong = 0
        for _ in range(trials):
            base = rng.normal(20.0, 5.0, n)
            one, other = base + rng.exponential(4.0, n), base + rng.exponential(4.0, n)
            wrong += paired([units(one), units(other)], [(0, 1)])[0] <= 0.05
        # 5 % of 2,000 trials have a standard error of half a percent
        assert wrong / trials == pytest.approx(0.05, abs=0.016), n


@pytest.mark.slow
def test_holm_keeps_the_chance_of_any_wrong_rank_below_five_percent():
    rng, trials, wrong = np.random.default_rng(0), 400, 0
    for _ in range(trials):
        rows = [units(rng.normal(20.0, 5.0, 24)) for _ in range(5)]
        wrong += any(rank != Rank(1, 5) for rank in ranks(rows))
    assert wrong / trials < 0.05 + 0.022


def test_a_single_difference_is_no_evidence():
    assert sign_flip([0.0, 1.0, 0.0]) == 1
    assert sign_flip([2.0]) == 1
