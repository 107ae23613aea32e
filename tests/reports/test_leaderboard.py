"""Tables are a pure function of records, and leave nothing out in silence."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from privbench.cli.options import console
from privbench.cli.tables import board, notes
from privbench.component import Part
from privbench.errors import BadData
from privbench.reports.leaderboard import leaderboard, to_csv
from privbench.reports.stats import mean_interval, mean_intervals
from tests.sample_records import done, lost, part

SCORES = [31.0, 12.5, 100.0, 18.25, 9.0, 44.5]


def images(scores=SCORES, **given):
    return [done([score], [score / 2], images=(i,), **given) for i, score in enumerate(scores)]


def only(records):
    [row] = leaderboard(records).to_dict("records")
    return row


def suite():
    records = images() + images(SCORES[::-1], model="vit_vanilla")
    records += [lost(images=(6,)), lost("refused", "no labels", attack="april")]
    records[1] = replace(records[1], warnings=("odd",))
    records[3] = replace(records[3], warnings=("even",), seconds=0.1, objective=None)
    return records


@pytest.mark.parametrize("seed", range(5))
def test_records_in_any_order_give_the_same_bytes(seed):
    records = suite()
    expected = to_csv(leaderboard(records))
    random.Random(seed).shuffle(records)
    assert to_csv(leaderboard(records)) == expected


def test_mean_and_interval_are_those_of_numpy():
    row = only(images())
    scores = np.array(SCORES)
    dice = np.random.default_rng(1)
    means = dice.choice(scores, (200_000, len(scores))).mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    assert row["psnr"] == pytest.approx(scores.mean())
    assert row["psnr_lo"] == pytest.approx(low, abs=1.0)
    assert row["psnr_hi"] == pytest.approx(high, abs=1.0)
    assert row["psnr_floor"] == pytest.approx(scores.mean() / 2)


def test_a_batch_counts_each_of_its_images():
    row = only([done([10.0, 20.0], [5.0, 5.0], images=(0, 1)), lost(images=(2, 3))])
    assert (row["n"], row["failed"], row["refused"], row["psnr"]) == (2, 2, 0, 15.0)
    assert row["seconds"] == 1.0, "per image"


def test_exact_pictures_are_counted():
    assert only(images([100.0, 99.9, 100.0]))["psnr_exact"] == 2


def test_failed_and_refused_images_are_rows_with_their_reason():
    table = leaderboard(suite()).set_index(["model", "attack"])
    assert table.loc[("vit_mjp", "pe_ls"), "failed"] == 1
    assert table.loc[("vit_mjp", "pe_ls"), "n"] == 6
    assert "ValueError: no" in str(table.loc[("vit_mjp", "pe_ls"), "notes"])
    assert table.loc[("vit_mjp", "april"), "refused"] == 1
    assert table.loc[("vit_mjp", "april"), "notes"] == "no labels"


def test_a_table_of_failures_alone_has_its_counts():
    row = only([lost(images=(0,)), lost(images=(1,))])
    assert (row["n"], row["failed"]) == (0, 2)
    assert row["notes"] == "ValueError: no", "each reason once"


def test_the_control_is_the_undefended_mean_under_the_same_attack():
    records = images() + images([50.0, 60.0], model="vit_vanilla")
    records += images([70.0], model="vit_vanilla", attack="dlg")
    table = leaderboard(records).set_index(["model", "attack"])
    assert table.loc[("vit_mjp", "pe_ls"), "psnr_control"] == 55.0
    assert table.loc[("vit_vanilla", "pe_ls"), "psnr_control"] == 55.0, "its own control"


def test_the_control_of_a_changed_victim_is_changed_alike():
    shallow = "vit_vanilla(depth=1)"
    records = images(model=part("vit_mjp", depth=1), control=shallow)
    records += images([50.0], model=part("vit_vanilla", depth=1), control=shallow)
    records += images([90.0], model="vit_vanilla")
    table = leaderboard(records).set_index("model")
    assert table.loc["vit_mjp(depth=1)", "psnr_control"] == 50.0


@pytest.mark.parametrize(
    "stranger",
    [
        {"attack": "dlg"},
        {"seed": 1},
        {"knows": ["labels"]},
        {"dataset": "photos"},
        {"defense": ["noise"]},
        {"model": "vit_nope"},
        None,
    ],
    ids=str,
)
def test_without_a_control_attacked_alike_the_column_is_empty_and_a_note_says_so(stranger):
    records = images([30.0])
    if stranger is not None:
        records += images([77.0], **({"model": "vit_vanilla"} | stranger))
    table = leaderboard(records)
    mine = [row for row in table.to_dict("records") if row["model"] == "vit_mjp"]
    assert all(pd.isna(row["psnr_control"]) for row in mine)
    assert any("No undefended control" in note for note in notes(table))


def test_a_defended_update_is_compared_with_the_undefended_one():
    records = images([20.0], model="vit_vanilla", defense=["noise"])
    records += images([60.0], model="vit_vanilla")
    table = leaderboard(records).set_index("defense")
    assert table.loc["noise", "psnr_control"] == 60.0


@pytest.mark.parametrize("component", ["attack", "model", "defense"])
def test_older_versions_no_longer_count(component):
    name = {"attack": "pe_ls", "model": "vit_mjp", "defense": "none"}[component]
    one, two = part(name), part(name, version=2)
    old, new = ([one], [two]) if component == "defense" else (one, two)
    row = only(images([90.0, 80.0, 70.0], **{component: old}) + images([10.0], **{component: new}))
    assert (row["n"], row["psnr"]) == (1, 10.0)


def test_a_component_that_gained_a_setting_replaces_its_older_records():
    old, new = part("vit_mjp"), Part("vit_mjp", "vit_mjp", 1, {"position_std": 0.02})
    row = only(images([90.0, 80.0], model=old) + images([10.0], model=new))
    assert (row["n"], row["psnr"]) == (1, 10.0)


def test_one_image_has_no_interval():
    row = only(images([10.0]))
    assert row["psnr"] == 10.0
    assert np.isnan(row["psnr_lo"])
    assert np.isnan(row["psnr_hi"])
    assert b",10,,,5," in to_csv(leaderboard(images([10.0])))


def test_no_records_are_an_empty_table_with_a_header():
    table = leaderboard([])
    assert len(table) == 0
    assert to_csv(table).startswith(b"model,weights,weights_sha256,defense,attack,")


@pytest.mark.parametrize("odd", [None, float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_left_out_before_and_after_it_was_written(odd):
    row = only([*images([10.0, 20.0]), done([odd], images=(5,)), done([30.0], images=(6,))])
    assert row["psnr"] == 20.0
    record = replace(done(), objective=odd)
    assert only([record, done(images=(1,))])["objective"] == 0.5


def test_seeds_threats_and_defenses_are_rows_of_their_own():
    records = images() + images(seed=1) + images(knows=["labels"]) + images(defense=["noise"])
    assert len(leaderboard(records)) == 4


MANY = st.lists(st.floats(0, 100), min_size=2, max_size=12)


@settings(max_examples=25, deadline=None)
@given(values=MANY)
def test_the_interval_holds_the_mean_and_stays_within_the_data(values):
    mean, low, high = mean_interval(values)
    assert mean == pytest.approx(np.mean(values))
    assert min(values) - 1e-9 <= low <= mean + 1e-9
    assert mean - 1e-9 <= high <= max(values) + 1e-9


@settings(max_examples=25, deadline=None)
@given(values=MANY, shift=st.floats(-1000, 1000))
def test_the_interval_moves_with_the_data(values, shift):
    moved = mean_interval([value + shift for value in values])
    assert moved == pytest.approx([one + shift for one in mean_interval(values)], abs=1e-6)


def test_the_interval_is_the_same_every_time():
    assert mean_interval(SCORES) == mean_interval(SCORES)


def test_nothing_measured_is_not_a_number():
    assert all(np.isnan(one) for one in mean_interval([]))


def test_the_control_counts_on_the_same_pictures_only():
    records = images([20.0]) + images([50.0, 90.0], model="vit_vanilla")
    table = leaderboard(records).set_index("model")
    assert table.loc["vit_mjp", "psnr_control"] == 50.0
    assert table.loc["vit_vanilla", "psnr_control"] == 70.0


def test_a_control_from_an_earlier_run_counts_without_a_row_of_its_own():
    table = leaderboard(images([20.0]), beside=images([50.0], model="vit_vanilla"))
    assert list(table["model"]) == ["vit_mjp"]
    assert list(table["psnr_control"]) == [50.0]


def test_the_oracle_is_the_best_member_of_each_image():
    records = [
        replace(done([10.0], images=(0,)), members={"a": {"psnr": [8.0]}, "b": {"psnr": [30.0]}}),
        replace(done([20.0], images=(1,)), members={"a": {"psnr": [19.0]}, "b": {"psnr": [1.0]}}),
    ]
    row = only(replace(one, choice=name) for one, name in zip(records, "ab", strict=True))
    assert (row["psnr"], row["psnr_oracle"], row["chosen"]) == (15.0, 25.0, "a 1, b 1")


def test_without_an_ensemble_there_is_no_oracle():
    assert "psnr_oracle" not in leaderboard(images()).columns


@pytest.mark.parametrize(("control", "void"), [(8.4, True), (25.0, False)])
def test_a_control_that_does_not_leak_makes_a_row_void(control, void):
    records = [done([9.0], model="vit_mjp"), done([control], model="vit_vanilla", control=None)]
    table = leaderboard(records).set_index("model")
    assert ("this row is void" in table["notes"]["vit_mjp"]) == void


def test_a_closed_form_that_fails_on_the_control_is_void_and_the_flat_picture_is_not():
    calls = {"gradient_calls": 0}
    for leak, void in ((8.5, True), (8.0, False)):
        records = [
            replace(done([leak], [8.0], model="vit_mjp"), **calls),
            replace(done([leak], [8.0], model="vit_vanilla", control=None), **calls),
        ]
        table = leaderboard(records).set_index("model")
        assert ("this row is void" in table["notes"]["vit_mjp"]) == void
    given_up = [done([8.0], [8.0]), done([8.0], [8.0], model="vit_vanilla", control=None)]
    assert "this row is void" in leaderboard(given_up)["notes"][0]


def of_version(version, scores, **given):
    return images(scores, attack=part("pe_ls", version), **given)


def test_what_older_versions_alone_have_is_told_and_does_not_count():
    row = only([*of_version(4, [90.0] * 5), *of_version(5, [10.0, 20.0])])
    assert (row["n"], row["psnr"], row["version"]) == (2, 15.0, 5)
    assert "Older versions alone have 3 more cases, which do not count" in row["notes"]
    again = only([*of_version(4, [90.0] * 2), *of_version(5, [10.0, 20.0])])
    assert "Older versions" not in again["notes"]


def test_a_control_of_another_version_is_told():
    for version, told in ((4, True), (5, False)):
        control = of_version(version, [90.0], model="vit_vanilla", control=None)
        table = leaderboard([*of_version(5, [10.0]), *control]).set_index("model")
        note = "The control was attacked by another version of pe_ls (4) than this row (5)"
        assert (note in table["notes"]["vit_mjp"]) == told
        assert "another version" not in table["notes"]["vit_vanilla"]


def test_a_log_has_room_for_every_name_of_the_first_leaderboard(capsys):
    results = Path(__file__).parents[2] / "results"
    table = pd.read_csv(results / "leaderboard" / "leaderboard.csv")
    console().print(board(table))
    lines = capsys.readouterr().out.splitlines()
    for model, defense in zip(table["model"], table["defense"], strict=True):
        assert any(line.split()[:2] == [model, defense] for line in lines)


def test_versions_of_a_metric_are_not_mixed():
    old, new = images([10.0]), images([20.0], attack="dlg")
    other = {"psnr": {**new[0].metrics["psnr"], "version": 2}}
    with pytest.raises(BadData, match="privbench rescore"):
        leaderboard([*old, replace(new[0], metrics=other)])


def test_records_without_nested_versions_are_older_than_those_with_them():
    old, new = images([90.0, 80.0]), images([10.0])
    new = [replace(one, case=replace(one.case, nested={"pe_ls": 1})) for one in new]
    row = only(old + new)
    assert (row["n"], row["psnr"]) == (1, 10.0)


@pytest.mark.parametrize("n", [2, 8, 33])
def test_intervals_are_those_of_scipy_with_the_same_draws(n):
    values = np.random.default_rng(n).uniform(0, 60, n)
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=10_000,
        batch=1000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    expected = (values.mean(), found.low, found.high)
    assert mean_interval(values.tolist()) == pytest.approx(expected, rel=1e-12)


def test_intervals_of_many_columns_are_those_of_each():
    columns = [SCORES, [], [3.0], SCORES[::-1], SCORES, [1.0, 2.0]]
    for one, together in zip(columns, mean_intervals(columns), strict=True):
        assert together == pytest.approx(mean_interval(one), nan_ok=True, rel=1e-12)
