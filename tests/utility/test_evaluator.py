"""Utility: numbers that can be checked by hand, records that outlive a stop, honest tables."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from privbench.block_masks import blockwise_draw, moved
from privbench.classifier import Classifier
from privbench.component import make, names
from privbench.evaluation import Evaluation
from privbench.observation import PublicModel
from privbench.patches import cut
from privbench.records.utility import UtilityRecord, UtilityStore
from privbench.reports.shuffled_figure import draw, figure
from privbench.reports.stats import share_interval
from privbench.seeds import generator
from privbench.utility import run as evaluator
from privbench.utility.pictures import choose
from privbench.utility.plan import Request
from privbench.utility.run import evaluate
from privbench.utility.table import KEYS, utility_table
from privbench.victims.classifier import open_classifier
from tests.commands import caller

EVALS = names("evals")


def quiet(*_):
    """Ignore progress."""


def measure(
    out, *models, evals=(), images: int | None = 20, assignments=("model.depth=1",), **more
):
    report = more.pop("report", quiet)
    request = Request(
        models=models or ("vit_mjp",),
        evals=evals,
        assignments=assignments,
        images=images,
        weights="init",
        **more,
    )
    return evaluate(request, "cpu", out, report)


def rngs(count, seed=0):
    return [generator("test", seed, place) for place in range(count)]


def opened(name: str, **settings: Any) -> Classifier:
    return open_classifier(name, {"depth": 2} | settings, "init", torch.device("cpu"))


def public_of(model: Classifier) -> PublicModel:
    assert model.public is not None
    return model.public


def sure(images: Tensor) -> Tensor:
    """Answer with the class that a picture's first pixel holds."""
    wanted = (images[:, 0, 0, 0] * 255).round().long()
    return torch.nn.functional.one_hot(wanted, 10).float()


def test_accuracy_counts_right_answers():
    model = replace(opened("vit_vanilla"), network=sure)
    images = torch.zeros(6, 3, 32, 32)
    images[:, 0, 0, 0] = torch.tensor([0, 1, 2, 3, 4, 5]) / 255
    labels = torch.tensor([0, 1, 2, 9, 0, 0])
    found = make(Evaluation, "accuracy", {}).measure(model, images, labels, {}, rngs(6))
    assert found["top1"].tolist() == [1, 1, 1, 0, 0, 0]
    # behind the one sure answer all others tie, and ties go to the lower class
    assert found["top5"].tolist() == [1, 1, 1, 0, 1, 1]


@pytest.mark.parametrize("model", ["vit_vanilla", "vit_mjp", "vit_pps", "vit_sincos"])
def test_shuffled_pictures_meet_the_victims_own_rule(pictures, model):
    classifier = opened(model, init_seed=1)
    public = public_of(classifier)
    images, labels = pictures(5)
    evaluation = make(Evaluation, "shuffled", {})
    found = evaluation.measure(classifier, images, labels, {"ratio": 0.5}, rngs(5))
    draw = blockwise_draw(8, 0.5, rngs(5))
    assert found["treated_0.5"].tolist() == draw.mask.float().mean(1).tolist()
    table = public.vit.positions.expand(5, -1, -1).clone()
    if model == "vit_mjp":
        rows = torch.cat([torch.zeros(5, 1, dtype=torch.bool), draw.mask], 1)
        table[rows] = public.vit.get_parameter("unknown_embed")
    expected = public.vit(moved(images, 4, draw), table).argmax(1) == labels
    assert found["shuffled_0.5"].bool().tolist() == expected.tolist()


def test_a_shuffle_moves_treated_patches_only(pictures):
    images, _ = pictures(4)
    draw = blockwise_draw(8, 0.5, rngs(4))
    before, after = cut(images, 4), cut(moved(images, 4, draw), 4)
    assert torch.equal(before[~draw.mask], after[~draw.mask])
    assert not torch.equal(before[draw.mask], after[draw.mask])
    for one, other, mask in zip(before, after, draw.mask, strict=True):
        assert sorted(one[mask].sum(1).tolist()) == sorted(other[mask].sum(1).tolist())


def test_consistency_is_perfect_where_nothing_moves(pictures):
    images, labels = pictures(8)
    flat = torch.full_like(images, 0.3)  # a puzzle of one color is solved
    found = make(Evaluation, "consistency", {}).measure(
        opened("vit_vanilla"), flat, labels, {}, rngs(8)
    )
    assert found["feature_distance"].max() < 1e-4
    assert found["agreement"].tolist() == [1.0] * 8
    assert found["kl"].abs().max() < 1e-6


def test_consistency_against_an_independent_calculation(pictures):
    classifier = opened("vit_mjp", init_seed=3)
    model = public_of(classifier)
    images, labels = pictures(6)
    with torch.no_grad():
        found = make(Evaluation, "consistency", {}).measure(classifier, images, labels, {}, rngs(6))
        draw = blockwise_draw(8, 0.5, rngs(6))
        table = model.defense.positions(model.vit, draw)
        seen: list[Tensor] = []
        hook = model.vit.backbone.norm.register_forward_hook(lambda *a: seen.append(a[2][:, 0]))
        p = model.vit(images).softmax(1)
        q = model.vit(moved(images, 4, draw), table).softmax(1)
        hook.remove()
    distance = (seen[0] - seen[1]).square().sum(1).sqrt()
    assert torch.allclose(found["feature_distance"], distance, rtol=1e-5)
    divergence = (p * (p / q).log()).sum(1)
    assert torch.allclose(found["kl"], divergence, rtol=0.05, atol=1e-6)
    right = p.argmax(1) == labels
    assert found["agreement_when_right"].isnan().tolist() == (~right).tolist()


def test_no_batch_size_changes_an_answer(tmp_path, monkeypatch):
    whole = measure(tmp_path / "a")
    monkeypatch.setattr(evaluator, "BATCH", 7)
    parts = measure(tmp_path / "b")
    for one, two in zip(whole, parts, strict=True):
        assert one.case.key == two.case.key
        for name, values in one.values.items():
            assert values == pytest.approx(two.values[name], abs=1e-4, nan_ok=True)


def test_a_part_of_the_pictures_is_fixed_and_mixed(tmp_path):
    [first] = measure(tmp_path / "a", evals=["accuracy"], images=30)
    [second] = measure(tmp_path / "b", evals=["accuracy"], images=30)
    [whole] = measure(tmp_path / "c", evals=["accuracy"], images=None)
    assert first.values == second.values
    chosen = list(choose(100, 30))
    assert chosen == sorted(set(chosen))
    assert chosen != list(range(30))
    assert first.values["top1"] == [whole.values["top1"][number] for number in chosen]
    assert len({first.case.key, whole.case.key}) == 2
    assert whole.case.n == 100


def test_a_stopped_evaluation_goes_on_where_it_was(tmp_path):
    calls: list[str] = []

    def stop(what: str, done: int, total: int) -> None:
        calls.append(what)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path, report=stop)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    assert len(kept) == 2
    assert (tmp_path / "accuracy.csv").is_file()
    calls.clear()
    records = measure(tmp_path, report=lambda what, *_: calls.append(what))
    assert len(records) == 7
    assert len(calls) == 5
    assert all(path.read_bytes() == content for path, content in kept.items())
    calls.clear()
    measure(tmp_path, report=lambda what, *_: calls.append(what))
    assert not calls


def test_records_survive_the_way_through_json_and_edits_do_not(tmp_path):
    [record] = measure(tmp_path, evals=["consistency"])
    text = record.to_json()
    again = UtilityRecord.from_json(text)
    assert again.case == record.case
    assert again.to_json() == text
    edited = text.replace('"agreement": [1.0', '"agreement": [0.0', 1)
    assert edited != text
    with pytest.raises(ValueError, match="edited"):
        UtilityRecord.from_json(edited)
    path = UtilityStore(tmp_path).path(record.case)
    path.write_text(edited)
    assert not list(UtilityStore(tmp_path).records())
    assert len(measure(tmp_path, evals=["consistency"])) == 1
    repaired = UtilityRecord.from_json(path.read_text())
    assert repaired.values == again.values


def test_the_table_has_an_interval_and_a_count_for_each_mean(tmp_path):
    table = utility_table(measure(tmp_path, "vit_vanilla", "vit_mjp", images=50))
    assert list(table["model"]) == ["vit_mjp(depth=1)", "vit_vanilla(depth=1)"]
    means = [c for c in table.columns if c not in KEYS and f"{c}_lo" in table.columns]
    assert {"top1", "top5", "shuffled_0.1", "shuffled_0.9", "agreement", "kl"} <= set(means)
    for name in means:
        row = table.dropna(subset=name).iloc[0]
        assert row[f"{name}_lo"] <= row[name] + 1e-12
        assert row[name] <= row[f"{name}_hi"] + 1e-12
    row = table.iloc[0]
    share, low, high = share_interval(round(row["top1"] * 50), 50)
    assert (row["top1"], row["top1_lo"], row["top1_hi"]) == (share, low, high)
    assert row["agreement_when_right_n"] == round(row["top1"] * 50)


def test_the_figure_shows_what_was_measured_and_nothing_else(tmp_path):
    table = utility_table(measure(tmp_path, "vit_vanilla", "vit_mjp"))
    drawn, picture = figure(table), draw(table)
    assert drawn is not None
    assert picture is not None
    lines = {str(line.get_label()): np.asarray(line.get_xydata()).T for line in drawn.axes[0].lines}
    ratios = {0.0: "top1"} | {r: f"shuffled_{r:g}" for r in (0.1, 0.3, 0.5, 0.7, 0.9)}
    assert set(lines) == set(table["model"])
    for row in table.to_dict("records"):
        assert list(lines[row["model"]][0]) == list(ratios)
        assert list(lines[row["model"]][1]) == [100 * row[name] for name in ratios.values()]
    image = Image.open(io.BytesIO(picture))
    assert image.width > 800
    assert image.convert("L").getextrema() == (0, 255)
    assert draw(table) == picture
    mixed = table.assign(n=[20, 30])
    plain = table.drop(columns=[name for name in table if str(name).startswith("shuffled")])
    for nothing in (plain, table.head(0), mixed):
        assert draw(nothing) is None


def test_what_was_not_measured_is_empty(tmp_path):
    records = measure(tmp_path, "vit_vanilla", evals=["accuracy"])
    records += measure(tmp_path, "vit_mjp", evals=["shuffled"])
    table = utility_table(records).set_index("model")
    assert math.isnan(table.loc["vit_mjp(depth=1)", "top1"])
    assert math.isnan(table.loc["vit_vanilla(depth=1)", "shuffled_0.5"])


def test_wilson_against_the_formula():
    for count, n in ((0, 7), (3, 10), (812, 1000), (5, 5)):
        share, low, high = share_interval(count, n)
        z = 1.959963984540054
        center = (count + z * z / 2) / (n + z * z)
        half = z / (n + z * z) * math.sqrt(count * (n - count) / n + z * z / 4)
        assert share == count / n
        assert (low, high) == pytest.approx((center - half, center + half), abs=1e-12)


@pytest.mark.parametrize("name", EVALS)
def test_every_evaluation_gives_a_number_per_picture(pictures, name):
    evaluation = make(Evaluation, name, {})
    model = opened("vit_mjp")
    vit = public_of(model).vit
    images, labels = pictures(3)
    before = {key: t.clone() for key, t in vit.state_dict().items()}
    for condition in evaluation.conditions():
        with torch.no_grad():
            found = evaluation.measure(model, images, labels, condition, rngs(3))
        assert found
        assert all(values.shape == (3,) for values in found.values())
    assert all(torch.equal(before[key], t) for key, t in vit.state_dict().items())
    assert set(evaluation.passes) <= set(evaluation.settings())


def test_the_command_prints_a_table_and_writes_it(tmp_path, monkeypatch, capsys):
    call = caller(monkeypatch, capsys)
    models = ["--model", "vit_vanilla,vit_mjp", "--set", "model.depth=1"]
    code, out, _ = call("eval", *models, "--images", "10", "--out", tmp_path)
    assert code == 0
    assert "vit_mjp" in out
    assert "shuffled 0.9" in out.replace("\n", " ") or "0.9" in out
    header = (tmp_path / "accuracy.csv").read_text().splitlines()[0]
    assert header.startswith("model,weights,weights_sha256,dataset,n,seed,top1,top1_lo,top1_hi")
    content = json.loads(next(tmp_path.rglob("*.json")).read_text())
    assert set(content["environment"]) >= {"torch", "timm"}


@pytest.mark.parametrize(
    ("wrong", "answer"),
    [
        (["--eval", "acuracy"], "Did you mean 'accuracy'?"),
        (["--images", "101"], "from 1 to 100 here, not 101"),
        (["--set", "eval.ratio=2"], "'ratio' cannot be 2"),
        (["--set", "eval.ratios=[]"], "'ratios' cannot be []"),
        (["--set", "eval.nix=2"], "No setting of eval is called 'nix'"),
        (["--dataset", "photos"], "photos has no classes"),
        (["--data-root", "missing"], "'missing' is not a folder"),
        (["--weights", "missing.safetensors"], "There is no weights file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_answered_in_a_sentence(tmp_path, monkeypatch, capsys, wrong, answer):
    monkeypatch.chdir(tmp_path)
    code, _, err = caller(monkeypatch, capsys)("eval", "--model", "vit_vanilla", *wrong)
    assert code == 2
    assert answer in err
    assert err.count(". ") <= 2
    assert not list(tmp_path.iterdir())


def test_a_folder_without_classes_is_refused(tmp_path, monkeypatch, capsys):
    Image.new("RGB", (32, 32)).save(tmp_path / "one.png")
    given = ["--dataset", "folder", "--data-root", str(tmp_path)]
    code, _, err = caller(monkeypatch, capsys)("eval", "--model", "vit_vanilla", *given)
    assert code == 2
    assert "folder has no classes" in err
    assert sorted(path.name for path in Path(tmp_path).iterdir()) == ["one.png"]
