"""Figures of robustness against hand-worked arrays and scikit-learn's numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from privbench.utility.calibration import BIN, aurra, calibration, rms_error
from privbench.utility.corruption_error import (
    COUNTED,
    HENDRYCKS,
    ROBUSTBENCH,
    SEVERITIES,
    mce,
    mean_error,
    missing,
    normalizer_of,
    relative_mce,
)
from privbench.utility.detection import Ranking, detection

COARSE = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=40)


def as_array(values):
    return np.array(values, dtype=float)


@given(COARSE, COARSE)
def test_rankings_agree_with_scikit_learn_ties_included(inside, outside):
    found = Ranking(as_array(inside), as_array(outside)).figures()
    truth = [0] * len(inside) + [1] * len(outside)
    scores = [*inside, *outside]
    assert found["aupr"] == pytest.approx(average_precision_score(truth, scores))
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, scores))
    alarms, hits, _ = roc_curve(truth, scores, drop_intermediate=False)
    assert found["fpr95"] == pytest.approx(alarms[hits >= 0.95 - 1e-12][0])


@given(COARSE, COARSE, st.randoms())
def test_a_resampled_ranking_is_the_ranking_of_that_sample(inside, outside, random):
    counts = [random.randrange(3) for _ in (*inside, *outside)]
    counts[0] = counts[-1] = 1
    first, second = counts[: len(inside)], counts[len(inside) :]
    weighted = Ranking(as_array(inside), as_array(outside)).figures(as_array(counts))
    sample = Ranking(np.repeat(inside, first), np.repeat(outside, second)).figures()
    assert weighted == pytest.approx(sample)


def test_a_ranking_by_hand():
    found = Ranking(as_array([0.1, 0.4]), as_array([0.35, 0.8])).figures()
    assert found["aupr"] == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert found["auroc"] == 0.75
    assert found["fpr95"] == 0.5


def test_one_picture_of_each_kind_and_none_of_one():
    found = detection(as_array([0.0]), as_array([1.0]))
    assert found["aupr"] == (1, 1, 1)
    assert found["fpr95"] == (0, 0, 0)
    for inside, outside in (([], [1.0]), ([1.0], [])):
        for values in detection(as_array(inside), as_array(outside)).values():
            assert all(math.isnan(one) for one in values)


def test_chance_is_the_share_of_outside_pictures():
    found = Ranking(np.zeros(10_000), np.zeros(2000)).figures()
    assert found["aupr"] == pytest.approx(1 / 6)  # 16.7 %, as for ImageNet-O
    assert found["auroc"] == 0.5
    assert found["fpr95"] == 1


def test_intervals_hold_the_figure():
    rng = np.random.default_rng(0)
    for low_high in (
        detection(rng.normal(0, 1, 300), rng.normal(1, 1, 60)),
        calibration(rng.integers(0, 2, 300).astype(float), rng.random(300)),
    ):
        for value, low, high in low_high.values():
            assert low <= value <= high
            assert low < high


def test_calibration_error_by_hand():
    # 250 pictures: bins of 100 and 150; the last one takes the rest
    confidence = np.linspace(0.2, 0.9, 250)
    right = np.r_[np.ones(50), np.zeros(50), np.ones(150)]
    gaps = [confidence[:100].mean() - 0.5, confidence[100:].mean() - 1]
    terms = [100 / 250 * gaps[0] ** 2, 150 / 250 * gaps[1] ** 2]
    order = np.random.default_rng(1).permutation(250)
    assert rms_error(right[order], confidence[order]) == pytest.approx(math.sqrt(sum(terms)))
    released = rms_error(right[order], confidence[order], released=True)
    assert released == pytest.approx(math.sqrt(terms[0]))


def test_calibration_of_few_pictures():
    assert rms_error(as_array([1]), as_array([0.75])) == 0.25
    assert rms_error(np.ones(BIN - 1), np.full(BIN - 1, 0.5)) == 0.5
    few, enough = 2 * BIN - 1, 2 * BIN  # the released formula has no bin but the last
    assert np.isnan(rms_error(np.ones(few), np.ones(few), released=True))
    assert rms_error(np.ones(enough), np.full(enough, 0.5), released=True) == 0.5**0.5 * 0.5
    assert math.isnan(rms_error(as_array([]), as_array([])))
    assert math.isnan(aurra(as_array([]), as_array([])))


def test_aurra_by_hand():
    right, confidence = as_array([1, 0, 1, 1]), as_array([0.9, 0.8, 0.7, 0.6])
    expected = (1 + 1 / 2 + 2 / 3 + 3 / 4) / 4
    assert aurra(right, confidence) == pytest.approx(expected)
    assert aurra(as_array([1]), as_array([0.3])) == 1
    assert aurra(np.zeros(5), np.arange(5.0)) == 0


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=300), st.randoms()
)
def test_no_order_among_equally_confident_pictures_counts(pairs, random):
    mixed = random.sample(pairs, len(pairs))
    for figure in (aurra, rms_error):
        one, two = (
            figure(as_array([r for r, _ in some]), as_array([c / 4 for _, c in some]))
            for some in (pairs, mixed)
        )
        assert one == pytest.approx(two)


def table(errors, n=1000):
    """Wrong answers whose share per corruption is as given, at every severity."""
    cells = {}
    for corruption, error in errors.items():
        for severity in SEVERITIES:
            wrong = np.zeros(n)
            wrong[: round(error * n)] = 1
            cells[corruption, severity] = wrong
    return cells


@pytest.mark.parametrize("normalizer", [HENDRYCKS, ROBUSTBENCH], ids=lambda one: one.name)
def test_a_model_with_alexnets_errors_has_100(normalizer):
    cells = table(normalizer.errors, n=1_000_000)
    assert mce(cells, normalizer).mean() == pytest.approx(100, abs=1e-3)
    share = np.mean(list(normalizer.errors.values()))
    assert mean_error(cells).mean() == pytest.approx(100 * share, abs=1e-3)


def test_published_means_of_the_normalizers():
    for normalizer, mean in ((HENDRYCKS, 0.788993), (ROBUSTBENCH, 0.788819)):
        assert set(normalizer.errors) == set(COUNTED)
        assert np.mean(list(normalizer.errors.values())) == pytest.approx(mean, abs=5e-7)


def test_relative_error_of_alexnet_is_100_too():
    cells = table(HENDRYCKS.errors, n=1_000_000)
    clean = np.zeros(1_000_000)
    assert HENDRYCKS.clean is not None
    clean[: round(HENDRYCKS.clean * 1_000_000)] = 1
    assert relative_mce(cells, clean, HENDRYCKS).mean() == pytest.approx(100, abs=1e-2)
    assert np.isnan(relative_mce(cells, clean, ROBUSTBENCH)).all()


def test_no_order_of_corruptions_and_no_extra_ones_count():
    rng = np.random.default_rng(0)
    errors = {name: rng.random() for name in COUNTED}
    cells = table(errors)
    mixed = {key: cells[key] for key in rng.permutation(len(cells)) for key in [[*cells][key]]}
    extra = cells | table({"speckle_noise": 1.0, "saturate": 1.0})
    by_hand = 100 * np.mean([round(errors[c], 3) / HENDRYCKS.errors[c] for c in COUNTED])
    for one in (cells, mixed, extra):
        assert mce(one, HENDRYCKS).mean() == pytest.approx(by_hand)


def test_missing_cells_are_named_and_the_control_has_100():
    cells = table(dict.fromkeys(COUNTED, 0.3))
    assert not missing(cells)
    assert mce(cells, normalizer_of("own", cells)).mean() == pytest.approx(100)
    del cells["fog", 3]
    assert missing(cells) == [("fog", 3)]
