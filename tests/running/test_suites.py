"""Suites: blocks, several seeds, batches and threat models; rows of two versions never mix."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from privbench.api import conduct
from privbench.errors import BadSetting
from privbench.records.case import Record
from privbench.records.store import Store
from privbench.reports.board import board
from privbench.reports.leaderboard import leaderboard
from privbench.running.plan import plan
from privbench.running.product import Entry, Product
from privbench.running.suite import Suite, single
from tests.commands import Call, caller

PINNED = {
    "quick": "quick 1 [e6ce6a72]",
    "standard": "standard 1 [df8427f8]",
}
"""Another digest under the same version: raise the version of the suite, and pin both here."""
TINY = "attack: mean\nmodel: vit_vanilla\nweights: init\nset: [model.depth=1]\n"
CPU = torch.device("cpu")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


def written(folder: Path, text: str, name: str = "mine") -> str:
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return str(path)


def test_blocks_seeds_batches_and_threat_models_are_multiplied(tmp_path):
    file = written(
        tmp_path,
        "model: vit_vanilla\nimages: 4\nseed: [0, 7]\nset: [model.depth=1]\nblocks:\n"
        "  - {attack: mean, batch_size: [1, 2], set: [model.dropout=0.1]}\n"
        "  - attack: [pe_ls, random]\n    images: 2\n"
        "    threat: [{}, {wire: weights, local_rate: 0.1}]\n",
    )
    found = [
        (p.seed, p.attack[0].name, p.images, p.batch_size, dict(p.threat), p.assignments)
        for p in Suite.build({}, file).products
    ]
    weights, dropout = {"wire": "weights", "local_rate": 0.1}, "model.dropout=0.1"
    assert found == [
        *(
            line
            for seed in (0, 7)
            for line in [
                (seed, "mean", 4, 1, {}, ("model.depth=1", dropout)),
                (seed, "mean", 4, 2, {}, ("model.depth=1", dropout)),
                (seed, "pe_ls", 2, 1, {}, ("model.depth=1",)),
                (seed, "pe_ls", 2, 1, weights, ("model.depth=1",)),
            ]
        )
    ], "all of the first seed comes first"
    changed = Suite.build({"seed": 3, "images": "2", "set": ["threat.wire=difference"]}, file)
    assert {(p.seed, p.images) for p in changed.products} == {(3, 2)}, "options win over blocks"
    assert {p.settings["threat"]["wire"] for p in changed.products} == {"difference"}


def test_a_plan_has_every_case_of_every_product_once(tmp_path):
    text = f"{TINY}images: 2\nblocks: [{{seed: [0, 1]}}, {{batch_size: [1, 2]}}]\n"
    jobs = plan(Suite.build({}, written(tmp_path, text)), CPU)
    assert sorted((job.case.seed, job.case.images) for job in jobs) == [
        *((0, (0,)), (0, (0, 1)), (0, (1,))),
        *((1, (0,)), (1, (1,))),
    ]


@pytest.mark.parametrize("name", PINNED)
def test_a_version_stands_for_one_definition(name):
    assert Suite.build({}, name).label == PINNED[name]


def test_the_standard_is_what_it_says():
    products = Suite.build({}, "standard").products
    kinds = {(p.batch_size, p.threat.get("wire", "gradient")) for p in products}
    assert kinds == {(b, wire) for b in (1, 4) for wire in ("gradient", "weights")}
    assert {p.seed for p in products} == {0, 1, 2}
    assert {p.threat.get("precision", "float32") for p in products} == {"float32"}
    for one in products:
        assert one.seconds is not None
        assert len(one.indices) >= (100 if one.seconds < 1 else 24)


def test_only_what_decides_a_result_makes_another_version(tmp_path):
    def label(text: str, **options: object) -> str:
        return Suite.build(options, written(tmp_path, text)).label

    plain = label(f"version: 1\nimages: 2\n{TINY}")
    assert plain.startswith("mine 1 [")
    assert label(f"{TINY}images: 2\nsummary: Other words.\nseconds: 9\nversion: 1\n") == plain
    assert label(f"version: 1\nimages: 3\n{TINY}") != plain, "a change that nobody counted"
    assert label(f"version: 2\nimages: 2\n{TINY}").startswith("mine 2 [")
    assert label(f"images: 2\n{TINY}") == "", "a suite without a version"
    assert label(f"version: 1\nimages: 2\n{TINY}", images=1) == "", "an option changed it"
    assert label(f"version: 1\nimages: 2\n{TINY}", data_root=tmp_path) == plain


def ran(file: str, store: Store) -> list[Record]:
    return conduct(Suite.build({}, file), store, "cpu").records


def shares(table: pd.DataFrame) -> dict[str, int]:
    suites = table["suite"] if "suite" in table else [""] * len(table)
    return {suite.partition(" [")[0]: n for suite, n in zip(suites, table["n"], strict=True)}


def test_rows_of_two_versions_never_mix(tmp_path):
    """Version 1 has pictures 0 and 1, version 2 has 1 to 3, and somebody asks for 0 by hand."""
    store = Store(tmp_path / "out")
    ran(written(tmp_path, f"version: 1\nimages: [0, 1]\n{TINY}"), store)
    ran(written(tmp_path, f"version: 2\nimages: [1, 2, 3]\n{TINY}"), store)
    table = leaderboard(store.records())
    assert shares(table) == {"mine 1": 2, "mine 2": 3}
    assert len(list(store.folder.glob("cases/*/*.json"))) == 4, "a case of both is run once"
    ran(written(tmp_path, f"images: 1\n{TINY}", "free"), store)
    everything = list(store.records())
    assert shares(leaderboard(everything)) == {"": 1, "mine 1": 2, "mine 2": 3}
    sections = board(everything)
    found = {str(s.protocol.get("suite", "")).partition(" [")[0]: s.rows[0]["n"] for s in sections}
    assert found == {"": 1, "mine 1": 2, "mine 2": 3}
    again = board(everything, by=["model"])
    assert sorted(row["n"] for one in again for row in one.rows) == [1, 2, 3]


def test_what_was_run_by_hand_stays_a_row_when_a_suite_asks_for_it_too(tmp_path):
    store = Store(tmp_path / "out")
    ran(written(tmp_path, f"images: 2\n{TINY}", "free"), store)
    before = leaderboard(store.records())
    assert "suite" not in before.columns, "without a suite the table is as it was"
    ran(written(tmp_path, f"version: 1\nimages: 1\n{TINY}"), store)
    ran(written(tmp_path, f"version: 1\nimages: 1\n{TINY}"), store)
    assert shares(leaderboard(store.records())) == {"": 2, "mine 1": 1}


def test_a_forecast_says_what_the_suite_does_where_no_record_can(tmp_path, call):
    file = written(tmp_path, f"{TINY}images: 3\nseconds: 20\n")
    code, out, _ = call("run", "--suite", file, "--dry-run", "--out", tmp_path / "out")
    assert code == 0
    assert "3 cases: 0 on record, 0 refused, 3 to run." in out
    assert "About 60 s (0.0 hours) for 3 of them, by what the suite says" in out
    assert "No estimate" not in out
    ran(written(tmp_path, f"{TINY}images: 1\n", "one"), Store(tmp_path / "out"))
    _, out, _ = call("run", "--suite", file, "--dry-run", "--out", tmp_path / "out")
    assert "for 2 of them: the mean of records of the same kind" in out
    assert "by what the suite says" not in out
    [other] = Suite.build({"attack": "pe_ls"}, file).products
    assert other.seconds is None, "the file says what its own attacks take"


@pytest.mark.parametrize("name", ["demo", "paper", "quick", "standard"])
def test_a_bundled_suite_says_what_its_cases_take(name):
    assert all(product.seconds for product in Suite.build({}, name).products)


def test_a_suite_is_a_yaml_file_by_its_name(tmp_path, monkeypatch):
    file = tmp_path / "mine.md"
    file.write_text(f"{TINY}images: 1\n")
    with pytest.raises(BadSetting, match=r"is there, and a suite is a \.yaml"):
        Suite.build({}, str(file))
    monkeypatch.chdir(tmp_path)
    Path("demo").write_text("of the user's own")
    assert Suite.build({}, "demo").products, "a bundled name stays that suite"


@pytest.mark.parametrize("field", ["attack", "model", "defense"])
def test_one_name_or_one_mapping_is_a_list_of_one(field, tmp_path):
    names = {"attack": "mean", "model": "vit_vanilla", "defense": "noise"}
    forms = [names[field], {"name": names[field]}, [{"name": names[field]}]]
    found = [Suite.build({**names, field: form}) for form in forms]
    assert found[0] == found[1] == found[2]
    text = "{name: noise, settings: {sigma: 0.1}}"
    file = written(tmp_path, f"attack: {{name: mean}}\nmodel: vit_vanilla\ndefense: {text}\n")
    [product] = Suite.build({}, file).products
    assert product.attack == (Entry(name="mean"),)
    assert product.defense == (Entry(name="noise", settings={"sigma": 0.1}),)


def test_a_command_for_one_product_refuses_more(tmp_path):
    file = written(tmp_path, f"{TINY}seed: [0, 1]\n")
    with pytest.raises(BadSetting, match="has 2 products"):
        single(Product, {}, file)
    assert single(Product, {"seed": 1}, file).seed == 1
