"""The position study: regressions that cannot cheat, numbers that repeat, a picture to look at."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

from privbench.errors import BadWeights
from privbench.reports.leaderboard import to_csv
from privbench.reports.positions_figure import draw
from privbench.study import positions
from privbench.study.positions import TASKS, study
from tests.conftest import quiet

GRID, N, D = 8, 64, 128
PLACES = np.array([[i, i // GRID, i % GRID] for i in range(N)])


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def with_table(victim):
    """A shallow victim whose patches have the given embeddings; its class token has a wild one."""

    def build(values, name="vit_vanilla"):
        built = victim(name, depth=1)
        table = built.model.vit.positions.data
        table[0, 0] = 1e6
        table[0, 1:] = torch.as_tensor(values, dtype=torch.float32)
        return built

    return build


@pytest.fixture(scope="module")
def planted(with_table):
    """A table in which row and column stand plainly, somewhere in 128 directions."""
    return with_table(5 + PLACES[:, 1:] @ rng().normal(size=(2, D)))


@pytest.fixture(scope="module")
def table(victim, with_table, planted):
    victims = [
        ("planted", planted),
        ("noise", with_table(rng().normal(size=(N, D)), "vit_mjp")),
        ("zero", victim("vit_nope", depth=1)),
        ("constant", with_table(np.full((N, D), 0.1), "vit_shuffle")),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(positions, "DRAWS", 3)
        return study(victims, 0, quiet)


@pytest.fixture(scope="module")
def rows(table):
    return {row["model"]: row for row in table.to_dict("records")}


@pytest.fixture
def few(monkeypatch):
    """Two draws, where more would only take longer."""
    monkeypatch.setattr(positions, "DRAWS", 2)


def mae(row):
    return np.array([row[f"mae_{task}"] for task in TASKS])


def floor(row):
    return np.array([row[f"mae_{task}_floor"] for task in TASKS])


def study_one(victim, seed=0):
    return study([("one", victim)], seed, quiet).iloc[0].to_dict()


# --- explained variance


def test_explained_variance_is_that_of_the_covariance():
    values = rng().normal(size=(N, D)) * np.linspace(3, 0.1, D) + 7
    variance = np.linalg.eigvalsh(np.cov(values.T))[::-1]
    expected = 100 * np.cumsum(variance) / variance.sum()
    assert positions._explained(positions._principal(values)) == pytest.approx(expected[:20])


def test_explained_variance_of_a_table_made_to_measure():
    directions = np.linalg.qr(rng().normal(size=(N, 4)) - [[9, 0, 0, 0]])[0]
    directions = np.linalg.qr(directions - directions.mean(0))[0][:, :3]
    values = directions * np.sqrt([50, 30, 20]) @ np.eye(3, D) + 4
    expected = [50, 80, *[100] * 18]
    assert positions._explained(positions._principal(values)) == pytest.approx(expected)


def test_components_that_a_small_table_does_not_have_are_empty():
    found = positions._explained(positions._principal(rng().normal(size=(9, D))))
    assert found[7] == pytest.approx(100)
    assert np.isfinite(found[:8]).all()
    assert np.isnan(found[8:]).all()


# --- regressions


@pytest.fixture
def fits(monkeypatch):
    """What each regression was given, without regressing anything."""
    seen = []

    def record(train, test, strengths, intercept):
        seen.append((train, test, len(strengths), intercept))
        return rng(len(seen)).random((len(strengths), 2))

    monkeypatch.setattr(positions, "_errors", record)
    return seen


def used(examples):
    """Positions that occur in examples whose features are the identity's rows."""
    return set(np.flatnonzero(np.abs(examples[0]).sum(0)))


@pytest.mark.parametrize("relative", [False, True])
def test_no_position_is_on_both_sides_and_the_ridge_never_sees_the_test_fold(fits, relative):
    positions._nested(np.eye(N), PLACES, relative, rng())
    assert len(fits) == 5 * (5 + 1)
    assert {intercept for *_, intercept in fits} == {not relative}
    tested = []
    for fold in range(5):
        *inner, (train, test, strengths, _) = fits[6 * fold : 6 * fold + 6]
        assert strengths == 2, "one for each reading"
        assert not used(train) & used(test)
        assert used(train) | used(test) == set(range(N))
        assert set.union(*(used(held) for _, held, _, _ in inner)) == used(train)
        for learned, held, strengths, _ in inner:
            assert strengths == 25
            assert not used(learned) & used(held)
            assert used(learned) | used(held) == used(train)
        tested += used(test)
    assert sorted(tested) == list(range(N)), "each position is tested once"


def test_pairs_are_of_two_positions_and_their_targets_signed_whole_numbers(fits):
    positions._nested(np.eye(N), PLACES, True, rng())
    x, y = (np.concatenate([train[part] for train, _, _, _ in fits]) for part in (0, 1))
    assert np.issubdtype(y.dtype, np.signedinteger)
    assert (y[:, 0] != 0).all(), "no position with itself"
    assert (y == PLACES[x.argmax(1)] - PLACES[x.argmin(1)]).all()
    assert y.min() < -40, "signs stay"
    assert y.max() > 40
    assert np.abs(y[:, 1:]).max() < GRID, "nothing wraps"


def test_a_table_that_holds_its_places_is_read_without_error(rows):
    assert mae(rows["planted"]) == pytest.approx(0, abs=1e-3)
    assert rows["planted"]["legacy_absolute_1d"] == pytest.approx(0, abs=1e-3)
    assert rows["planted"]["pca_2"] == pytest.approx(100, abs=1e-3)
    assert rows["planted"]["pca_1"] < 99


def test_a_table_that_says_nothing_is_read_no_better_than_by_guessing(rows):
    for name in ("noise", "random normal"):
        assert mae(rows[name]) == pytest.approx(floor(rows[name]), rel=0.1), name


def test_sine_cosine_tables_are_read_far_better_than_random_ones(rows):
    assert (mae(rows["2-D sin-cos"]) < mae(rows["random normal"]) / 100).all()
    assert rows["2-D sin-cos"]["pca_4"] > 4 * rows["random normal"]["pca_4"]


def test_signal_below_noise_is_found_in_part(with_table, few):
    signal = (PLACES[:, 1:] - 3.5) @ rng(1).normal(size=(2, D)) / 4
    row = study_one(with_table(signal + rng(2).normal(size=(N, D))))
    assert (mae(row) < 0.8 * floor(row)).all()
    assert (mae(row) > 0.05 * floor(row)).all()


@pytest.mark.parametrize("relative", [False, True])
def test_the_errors_depend_on_no_choice_of_units_or_axes(relative):
    values = rng(1).normal(size=(N, D)) + (PLACES[:, 1:] @ rng(2).normal(size=(2, D))) / 4
    turn = np.linalg.qr(rng(3).normal(size=(D, D)))[0]
    one, other = (
        positions._nested(positions._principal(table), PLACES, relative, rng())
        for table in (values, 300 * values @ turn + 2)
    )
    assert one == pytest.approx(other)
    assert one.min() > 0.1


@pytest.mark.parametrize("name", ["zero", "constant"])
def test_a_table_without_variance_is_read_by_guessing_the_mean(rows, name):
    row = rows[name]
    assert all(np.isnan(row[f"pca_{k}"]) for k in range(1, 21))
    assert mae(row) == pytest.approx(floor(row), rel=0.1)
    assert row["legacy_absolute_2d"] == pytest.approx(2, rel=0.1)


def test_the_floor_is_the_error_of_a_constant(rows):
    pairs = [PLACES[i] - PLACES[j] for i, j in product(range(N), repeat=2) if i != j]
    absolute, relative = (np.abs(x).mean(0) for x in (PLACES - PLACES.mean(0), np.array(pairs)))
    expected = [absolute[0], absolute[1:].mean(), relative[0], relative[1:].mean()]
    assert floor(rows["noise"]) == pytest.approx(expected)
    odd = positions._floors(3)
    assert odd["absolute_1d"] == pytest.approx(np.abs(np.arange(9) - 4).mean())
    assert odd["absolute_2d"] == pytest.approx(2 / 3)


# --- as released


def test_legacy_differences_wrap_as_unsigned_bytes_do():
    one, other = np.arange(-13, 1)[:, None] + 13, np.full((14, 1), 13)
    bytes_ = one.astype(np.uint8) - other.astype(np.uint8)
    found = positions._wrapped(one - other)
    assert (found == np.abs(bytes_)).all()
    assert found[:, 0].tolist() == [*range(243, 256), 0]


def test_legacy_targets_are_unsigned_and_wrapped_while_ours_are_not(fits):
    positions._legacy(np.eye(N), PLACES, rng())
    absolute, relative = fits[:5], fits[5:]
    assert {len(test[0]) for _, test, _, _ in fits} == {12, 13}
    assert all(strengths == 1 and intercept for _, _, strengths, intercept in fits)
    for (x, y), _, _, _ in absolute:
        assert (y == PLACES[x.argmax(1)]).all()
    for (x, y), _, _, _ in relative:
        difference = PLACES[x.argmax(1)] - PLACES[x.argmin(1)]
        difference[~x.any(1)] = 0  # a position with itself
        assert (y[:, 0] == np.abs(difference[:, 0])).all()
        assert (y[:, 1:] == np.where(difference < 0, 256 + difference, difference)[:, 1:]).all()
        assert y.max() > 200


def test_legacy_numbers_are_absurd_where_ours_are_zero(rows):
    assert rows["planted"]["legacy_relative_2d_uint8"] > 10 * GRID
    assert rows["planted"]["legacy_relative_1d"] > 5


# --- the table


def test_the_columns_are_these(table):
    ends = ("", "_lo", "_hi", "_floor")
    assert list(table.columns) == [
        *("model", "weights", "weights_sha256", "n", "d"),
        *(f"pca_{k}" for k in range(1, 21)),
        *("paper_says", *(f"paper_says_pca_{k}" for k in range(3, 8))),
        *(f"mae_{task}{end}" for task in TASKS for end in ends),
        *("legacy_absolute_1d", "legacy_absolute_2d"),
        *("legacy_relative_1d", "legacy_relative_2d_uint8"),
    ]


def test_victims_come_first_with_their_weights_then_what_to_compare_with(table, planted):
    names = ["planted", "noise", "zero", "constant", "random normal", "2-D sin-cos"]
    assert list(table["model"]) == names
    assert list(table["weights"]) == [*["init"] * 4, "", ""]
    assert table["weights_sha256"][0] == planted.weights_sha256[:12]
    assert set(table["n"]) == {N}
    assert set(table["d"]) == {D}
    assert b"\nplanted,init," in to_csv(table)


def test_published_values_stand_beside_their_own_scheme_and_nowhere_else(rows):
    def published(name):
        return [rows[name][f"paper_says_pca_{k}"] for k in range(3, 8)]

    assert rows["planted"]["paper_says"] == "DeiT-S"
    assert published("planted") == [54.61, 68.55, 77.95, 85.54, 90.74]
    assert rows["noise"]["paper_says"] == "DeiT-S+MJP"
    assert published("noise") == [46.74, 58.36, 69.10, 78.13, 84.55]
    for name in ("zero", "constant", "random normal", "2-D sin-cos"):
        assert pd.isna(rows[name]["paper_says"])
        assert pd.isna(published(name)).all()


def test_the_interval_holds_the_mean_of_the_draws(rows):
    for task in TASKS:
        low, mean, high = (rows["noise"][f"mae_{task}{end}"] for end in ("_lo", "", "_hi"))
        assert low < mean < high
        assert high - low < 0.3 * mean


def test_the_same_twice_whatever_else_is_studied_or_drawn(planted, victim, few):
    victims = [("planted", planted), ("init", victim("vit_vanilla", depth=1))]
    before = torch.get_rng_state()
    np.random.seed(1)
    one = study(victims, 7, quiet)
    np.random.seed(2)
    again = study(victims[1:], 7, quiet)
    assert np.random.randint(1 << 30) == np.random.RandomState(2).randint(1 << 30)
    assert torch.equal(before, torch.get_rng_state())
    pd.testing.assert_frame_equal(one.drop(index=0).reset_index(drop=True), again, check_exact=True)
    other = study(victims[1:], 8, quiet)
    assert not set(other["mae_absolute_1d"]) & set(again["mae_absolute_1d"]), "another seed"


def test_progress_is_told_draw_by_draw(victim):
    told = []
    tiny = victim("vit_nope", depth=1, img_size=4)
    study([("one", tiny)], 0, lambda *step: told.append(step))
    assert told == [(done, 30) for done in range(1, 31)], "ten draws of three tables"


def test_each_shape_has_its_own_tables_to_compare_with(victim, few):
    even = victim("vit_vanilla", depth=1, img_size=16)
    odd = victim("vit_vanilla", depth=1, embed_dim=30, num_heads=2, img_size=16)
    table = study([("even", even), ("odd", odd), ("again", even)], 0, quiet)
    shapes = list(zip(table["model"], table["n"], table["d"], strict=True))
    assert shapes == [
        *(("even", 16, 128), ("odd", 16, 30), ("again", 16, 128)),
        *(("random normal", 16, 128), ("2-D sin-cos", 16, 128), ("random normal", 16, 30)),
    ], "no sine-cosine table where four does not divide the width"
    assert np.isfinite(table[[f"mae_{task}" for task in TASKS]].to_numpy()).all()


@pytest.mark.parametrize("size", [4, 12])
def test_too_few_positions_give_no_errors_but_their_row(victim, size, few):
    table = study([("few", victim("vit_vanilla", depth=1, img_size=size))], 0, quiet)
    read = table.filter(regex="^(mae|legacy)_").drop(columns=list(table.filter(regex="_floor$")))
    assert read.isna().all(axis=None)
    assert np.isfinite(table["pca_3"]).all() == (size == 12)
    assert draw(table).startswith(b"\x89PNG")


def test_a_table_that_is_not_finite_is_refused_in_a_sentence(with_table):
    values = np.zeros((N, D))
    values[3, 4] = np.nan
    with pytest.raises(BadWeights, match=r"^broken: .* not finite"):
        study([("broken", with_table(values))], 0, quiet)
