"""Robustness end to end: passes, tables, comparisons, and models of all kinds."""

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from privbench.component import Part, make
from privbench.corruption_names import COUNTED
from privbench.dataset import Dataset
from privbench.errors import BadData, BadSetting, UnknownName
from privbench.evaluation import Evaluation
from privbench.records.utility import UtilityRecord
from privbench.reports.severity_figure import draw, figures
from privbench.reports.utility_figures import utility_figures
from privbench.running import tolerance
from privbench.utility import run as evaluator
from privbench.utility.compare import compare
from privbench.utility.pictures import Gallery
from privbench.utility.plan import Request
from privbench.utility.robustness import robustness_table
from privbench.utility.run import evaluate
from tests.commands import caller

CPU = torch.device("cpu")
SHALLOW = ("model.depth=1",)


def quiet(*_):
    """Ignore progress."""


def measure(out, *models, report=quiet, **request):
    given = {"models": models, "images": 4, "weights": "init", "assignments": SHALLOW} | request
    return evaluate(Request(**given), "cpu", out, report)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two shallow victims under all corruptions, four pictures."""
    out = tmp_path_factory.mktemp("results")
    records = measure(out, "vit_vanilla", "vit_mjp", robustness=True)
    return out, records


def with_values(record: UtilityRecord, **values: Sequence[float | None]) -> UtilityRecord:
    return replace(record, values={name: list(given) for name, given in values.items()})


def test_a_row_per_victim_with_n_and_intervals(results):
    out, records = results
    table: Any = pd.read_csv(out / "robustness.csv").set_index("model")
    assert list(table.index) == ["vit_mjp(depth=1)", "vit_vanilla(depth=1)"]
    assert list(table["defense"]) == ["mjp", "vanilla"]
    for name in ("top1", "cifar10_c_regen_mean_error", "cifar10_c_regen_added_error", "agreement"):
        assert (table[f"{name}_n"] == 4).all()
        assert (table[f"{name}_lo"] <= table[name]).all()
        assert (table[name] <= table[f"{name}_hi"]).all()
    plain = pd.read_csv(out / "accuracy.csv")
    assert not [name for name in plain if "wrong" in name or "cifar10_c" in name]
    assert len(records) == 2 * (1 + 75 + 1 + 5 + 1)


def test_means_are_over_75_cells_and_the_control_has_100(results):
    _, records = results
    table = robustness_table(records).set_index("model")
    cells = [
        np.array(one.values["wrong"], dtype=float).mean()
        for one in records
        if one.case.condition.get("severity") and one.case.model.name == "vit_mjp"
    ]
    assert len(cells) == 75
    row = table.loc["vit_mjp(depth=1)"]
    assert row["cifar10_c_regen_mean_error"] == pytest.approx(100 * np.mean(cells))
    control = table.loc["vit_vanilla(depth=1)"]
    name = "cifar10_c_regen_mCE_vit_vanilla(depth=1)"
    assert control[name] == pytest.approx(100)
    assert f"{name}_lo" in table
    assert not [name for name in table if "hendrycks" in name]


def test_the_leaderboard_takes_each_figure_with_its_ends_and_nothing_else(results):
    _, records = results
    found = utility_figures(records)
    [mine] = [row for (model, *_), row in found.items() if model == "vit_mjp(depth=1)"]
    table = robustness_table(records).set_index("model").loc["vit_mjp(depth=1)"]
    mce, mean = "cifar10_c_regen_mCE_vit_vanilla(depth=1)", "cifar10_c_regen_mean_error"
    names = {mce, mean, "top1", "agreement"}
    assert set(mine) == {f"{name}{end}" for name in names for end in ("", "_lo", "_hi")}
    assert [mine[f"{mce}{end}"] for end in ("", "_hi")] == [table[mce], table[f"{mce}_hi"]]


def test_a_missing_cell_leaves_the_figure_empty(results):
    _, records = results
    fewer = [one for one in records if one.case.condition.get("corruption") != "fog"]
    assert "cifar10_c_regen_mean_error" not in robustness_table(fewer)
    assert not draw(fewer)


def test_models_see_the_same_pictures_made_once(tmp_path, monkeypatch):
    calls = []
    kind = type(make(Evaluation, "cifar10_c_regen", {}))
    original = kind.prepare

    def counted(self, images, condition, rngs):
        calls.append(condition)
        return original(self, images, condition, rngs)

    monkeypatch.setattr(kind, "prepare", counted)
    few = (*SHALLOW, "eval.corruptions=[fog]", "eval.severities=[1,5]")
    chosen = {"evals": ["cifar10_c_regen"], "assignments": few}
    records = measure(tmp_path, "vit_vanilla", "vit_mjp", **chosen)
    assert len(records) == 6
    assert len(calls) == 3


def test_a_stopped_run_goes_on_by_corruption_and_severity(tmp_path):
    few = (*SHALLOW, "eval.corruptions=[fog, snow]", "eval.severities=[1,5]")
    chosen = {"evals": ["cifar10_c_regen"], "assignments": few}
    seen = []

    def stop(what, done, total):
        seen.append(what)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path, "vit_mjp", report=stop, **chosen)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    assert len(kept) == 2
    again = []
    measure(tmp_path, "vit_mjp", report=lambda what, *_: again.append(what), **chosen)
    assert again == seen[2:] + again[1:]
    assert len(again) == 3
    assert all(path.read_bytes() == content for path, content in kept.items())


def test_no_batch_size_changes_a_corrupted_picture(tmp_path, monkeypatch):
    few = (*SHALLOW, "eval.corruptions=[gaussian_noise]", "eval.severities=[5]")
    chosen = {"evals": ["cifar10_c_regen"], "assignments": few, "images": 30}
    whole = measure(tmp_path / "a", "vit_mjp", **chosen)
    monkeypatch.setattr(evaluator, "BATCH", 7)
    parts = measure(tmp_path / "b", "vit_mjp", **chosen)
    assert [one.values for one in whole] == [one.values for one in parts]


def test_the_figure_has_a_line_per_model(results):
    _, records = results
    [(name, figure)] = figures(records).items()
    assert name == "cifar10_c_regen"
    [axes] = figure.axes
    lines = {str(line.get_label()): np.asarray(line.get_xydata()).T for line in axes.lines}
    assert set(lines) == {"vit_mjp(depth=1), init", "vit_vanilla(depth=1), init"}
    for label, (severities, errors) in lines.items():
        assert list(severities) == [0, 1, 2, 3, 4, 5]
        mine = [r for r in records if label.startswith(r.case.model.label)]
        for severity, error in zip(severities, errors, strict=True):
            cells = [
                np.mean([v for v in r.values["wrong"] if v is not None])
                for r in mine
                if "wrong" in r.values and r.case.condition["severity"] == severity
            ]
            assert error == pytest.approx(100 * np.mean(cells))
    pictures = draw(records)
    assert Image.open(io.BytesIO(pictures[name])).width > 800
    assert pictures == draw(records)


def test_a_comparison_is_paired_and_corrected(results):
    _, records = results
    found = compare(records, "vit_vanilla(depth=1)", "vit_mjp(depth=1)")
    table: Any = found.set_index("measure")
    assert {"top1", "agreement", "shuffled_0.5", "cifar10_c_regen mean error"} <= set(table.index)
    assert {f"cifar10_c_regen {name}" for name in COUNTED} <= set(table.index)
    assert (table["difference"] - (table["first"] - table["second"])).abs().max() < 1e-9
    known = table.dropna(subset="p")
    assert len(known) > 15
    assert (known["p_holm"] >= known["p"]).all()
    assert table["p_holm"].max() <= 1
    backwards = (-table["difference"]).tolist()
    mirrored = compare(records, "vit_mjp(depth=1)", "vit_vanilla(depth=1)").set_index("measure")
    assert mirrored["difference"].tolist() == pytest.approx(backwards, nan_ok=True)
    assert mirrored["p"].tolist() == pytest.approx(table["p"].tolist(), abs=0.02, nan_ok=True)


def test_a_real_difference_is_found_and_an_equal_model_is_not(results):
    _, records = results
    [one, two] = [r for r in records if "top1" in r.values]
    n = 200
    right = [float(i % 4 != 0) for i in range(n)]
    worse = [value if i % 3 else 0.0 for i, value in enumerate(right)]
    big = [replace(r, case=replace(r.case, n=n)) for r in (one, two)]
    names = [r.case.model.label for r in big]
    better, other = with_values(big[0], top1=right), with_values(big[1], top1=worse)
    row = compare([better, other], *names).iloc[0]
    assert row["difference"] == pytest.approx(np.mean(right) - np.mean(worse))
    assert row["lo"] > 0
    assert row["p"] <= 2e-4
    same = compare([better, with_values(big[1], top1=right)], *names).iloc[0]
    assert same["p"] == 1
    assert same["difference"] == 0


def test_comparisons_of_nothing_are_refused(results):
    _, records = results
    with pytest.raises(BadSetting, match="eval --model vit_mjp,vit_vanilla` first"):
        compare([], "vit_mjp", "vit_vanilla(depth=1)")
    with pytest.raises(UnknownName, match="Did you mean 'vit_mjp"):
        compare(records, "vit_mjp", "vit_vanilla(depth=1)")
    plain = [r for r in records if "top1" in r.values and r.case.model.name == "vit_mjp"]
    shuffled = [r for r in records if "kl" in r.values and r.case.model.name == "vit_vanilla"]
    with pytest.raises(BadSetting, match="never measured on the same pictures"):
        compare(plain + shuffled, "vit_mjp(depth=1)", "vit_vanilla(depth=1)")
    other = [replace(r, case=replace(r.case, weights="trained")) for r in plain]
    with pytest.raises(BadSetting, match="Say which with --weights"):
        compare([*records, *other], "vit_mjp(depth=1)", "vit_vanilla(depth=1)")


def folder_of(root, count, side=32, classes=10):
    rng = np.random.default_rng(0)
    for number in range(count):
        path = root / f"class{number % classes}" / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(path)
    return root


def test_few_unreadable_pictures_are_named_and_many_are_an_error(tmp_path, monkeypatch):
    root = folder_of(tmp_path / "pictures", 20)
    bad = root / "class3" / "0013.png"
    bad.write_bytes(bad.read_bytes()[:60])
    chosen = {"dataset": "folder", "data_root": root, "evals": ["accuracy"], "images": None}
    with pytest.raises(BadData, match=r"1 of 20 pictures cannot be read, more than 0.1%.*0013"):
        measure(tmp_path / "a", "vit_vanilla", **chosen)
    monkeypatch.setattr(tolerance, "TOLERATED", 0.1)
    [record] = measure(tmp_path / "b", "vit_vanilla", **chosen)
    assert [place for place, v in enumerate(record.values["top1"]) if v is None] == [7]
    assert "1 of 20 pictures left out: " in record.warnings[0]
    assert "0013.png" in record.warnings[0]
    assert UtilityRecord.from_json(record.to_json()).warnings == record.warnings
    table = pd.read_csv(tmp_path / "b" / "accuracy.csv")
    assert table.loc[0, "top1_n"] == 19


def test_large_pictures_are_known_by_their_content(tmp_path):
    pictures = make(Dataset, "folder", {"root": folder_of(tmp_path, 6, side=80)})
    one, two, smaller = (
        Gallery(Part("folder", "folder", 1, {}), pictures, side, 10, range(6))
        for side in (80, 80, 72)
    )
    assert one.sha256 == two.sha256 != smaller.sha256

    def again() -> str:
        data = make(Dataset, "folder", {"root": tmp_path})
        return Gallery(Part("folder", "folder", 1, {}), data, 80, 10, range(6)).sha256

    assert again() == one.sha256
    first = tmp_path / "class0" / "0000.png"
    first.rename(first.with_name("0000a.png"))
    assert again() == one.sha256, "another name in the same place"
    first.with_name("0000a.png").rename(first)
    content = first.read_bytes()
    first.write_bytes(bytes([*content[:-1], content[-1] ^ 1]))
    assert again() != one.sha256, "another content of the same size"
    first.write_bytes(content)
    assert again() == one.sha256
    images, labels, at = one.load([4, 1])
    assert images.shape == (2, 3, 80, 80)
    assert labels.tolist() == [
        make(Dataset, "folder", {"root": tmp_path}).labels(10)[i] for i in (4, 1)
    ]
    assert at == [0, 1]


def test_unknown_classes_and_shifted_pictures_have_their_figures(results):
    _, records = results
    [base] = [r for r in records if "top1" in r.values and r.case.model.name == "vit_mjp"]

    def record(name, n, condition, **values):
        part = replace(base.case.evaluation, name=name, label=name)
        case = replace(base.case, evaluation=part, condition=condition, n=n)
        return replace(base, case=case, values=values)

    scores = [-0.9, -0.8, -0.3]
    table = robustness_table(
        [
            record("imagenet_o", 3, {"side": "inside"}, outsideness=scores),
            record("imagenet_o", 2, {"side": "outside"}, outsideness=[-0.2, -0.1]),
            record(
                "imagenet_a", 2, {"pictures": "shifted"}, right=[1.0, 0.0], confidence=[0.9, 0.8]
            ),
            record("imagenet_a", 1, {"pictures": "clean"}, right=[1.0], confidence=[0.5]),
        ]
    )
    row = table.iloc[0]
    assert row["imagenet_o_aupr"] == 1
    assert (row["imagenet_o_aupr_n"], row["imagenet_o_inside_n"]) == (2, 3)
    assert row["imagenet_a_top1"] == 0.5
    assert row["imagenet_a_clean_top1"] == 1
    assert row["imagenet_a_aurra"] == 0.75
    assert row["imagenet_a_rms"] == pytest.approx(abs(0.85 - 0.5))
    alone = robustness_table([record("imagenet_o", 3, {"side": "inside"}, outsideness=scores)])
    assert not len(alone)


@pytest.mark.parametrize(
    ("wrong", "answer"),
    [
        (["--eval", "imagenet_a"], "--imagenet-a PATH"),
        (["--eval", "cifar10_c_regen", "--set", "eval.severities=[6]"], "severities"),
        (["--eval", "cifar10_c_regen", "--set", "eval.corruptions=[fogg]"], "Did you mean 'fog'?"),
        (["--imagenet", "here", "--dataset", "cifar10"], "Leave these out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_answered_in_a_sentence(tmp_path, monkeypatch, capsys, wrong, answer):
    monkeypatch.chdir(tmp_path)
    code, _, err = caller(monkeypatch, capsys)("eval", "--model", "vit_vanilla", *wrong)
    assert code == 2
    assert answer in err
    assert "Traceback" not in err


def test_compare_prints_and_writes_a_table(results, monkeypatch, capsys):
    out, _ = results
    call = caller(monkeypatch, capsys)
    code, text, err = call("compare", "vit_vanilla(depth=1)", "vit_mjp(depth=1)", "--out", out)
    assert code == 0, err
    assert "top1" in text
    assert len(pd.read_csv(out / "comparison.csv")) > 20
    code, _, err = call("compare", "vit_vanilla(depth=1)", "vit_nix", "--out", out)
    assert code == 2
    assert "No measured model is called 'vit_nix'" in err
