"""The leaderboard joins what lies apart, mixes no protocols and leaves out what nobody measured."""

import csv
import html.parser
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from privbench.errors import BadData, UnknownName
from privbench.kind import Kind
from privbench.records.utility import UtilityRecord
from privbench.reports.board import FEWEST, board
from privbench.reports.board_columns import DERIVED, FIRST, first, groups, shown
from privbench.reports.flags import AMBIGUOUS, FLAGS, OPEN
from privbench.reports.formats import FORMATS, raised
from privbench.reports.joined import figures, joined
from privbench.reports.ranks import MOST_ROWS, Rank
from tests.sample_records import accuracy_case, done, lost, part

ROOT = Path(__file__).parents[2]
SIZES = {"num_classes": 10}


def images(scores, **given):
    return [done([float(s)], [8.0], images=(i,), **given) for i, s in enumerate(scores)]


def accuracy(right, model="vit_mjp", weights_sha256="ab" * 32):
    case = accuracy_case(model, len(right), weights_sha256)
    kinds = {"top1": Kind.SHARE.value}
    return UtilityRecord(case, {"top1": [float(one) for one in right]}, 1.0, kinds=kinds)


def rows(records, *args, **kwargs):
    [section] = board(records, *args, **kwargs)
    return {(r["model"], r["defense"], r["attack"]): r for r in section.rows}


@pytest.fixture(autouse=True)
def _any_attack_will_do(request, monkeypatch):
    """So that a test needs no second attack, unless it is about that."""
    if "unranked" not in request.node.name:
        monkeypatch.setattr("privbench.reports.board.unranked", lambda case, ran: None)


def suite():
    vanilla = images(range(50, 74), model="vit_vanilla")
    mjp = images(range(20, 44))
    noisy = images(range(10, 34), model="vit_vanilla", defense=["noise"])
    return [*vanilla, *mjp, *noisy]


def test_a_row_has_leak_control_difference_and_rank():
    found = rows(suite())
    row = found["vit_mjp", "none", "pe_ls"]
    assert (row["n"], row["psnr"], row["psnr_control"], row["lost"]) == (24, 31.5, 61.5, 30.0)
    assert row["lost_lo"] == row["lost_hi"] == 30.0
    assert row["lost_p"] < 0.001
    assert row["rank"] == Rank(2, 2)
    assert found["vit_vanilla", "none", "pe_ls"]["rank"] == Rank(1, 1)
    assert "lost" not in found["vit_vanilla", "none", "pe_ls"], "its own control"


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"dataset": "photos"}, {"knows": ["labels"]}], ids=str
)
def test_another_protocol_is_another_section(other):
    sections = board([*suite(), *images([99.0], **other)])
    assert [len(one.rows) for one in sections] == [3, 1]
    assert sections[1].rows[0]["rank"] == Rank(1, 1)
    assert "psnr_control" not in sections[1].rows[0]


def test_sections_of_equal_size_follow_the_numbers_in_their_names():
    sizes = (12, 2, 4)
    records = [done([9.0] * size, [8.0] * size, images=tuple(range(size))) for size in sizes]
    titles = [section.title for section in board(records)]
    assert [title.split("batch ")[1].split(",")[0] for title in titles] == ["2", "4", "12"]


def test_the_leakiest_row_stands_first_whatever_its_rank():
    few = images([40.0], attack="dlg")
    [section] = board([*suite(), *few])
    assert [row["attack"] for row in section.rows] == ["pe_ls", "dlg", "pe_ls", "pe_ls"]


def test_a_table_says_why_so_many_rows_have_no_rank():
    """Each of the rest still has its figures."""
    many = [r for k in range(MOST_ROWS + 1) for r in images([k], model=f"vit_{k}")]
    for count, silent in ((MOST_ROWS, True), (MOST_ROWS + 1, False)):
        [section] = board(many[:count])
        assert len(section.rows) == count
        assert ("no ranks" not in dict(raised([section]))) is silent
        assert all(row["rank"] is not None for row in section.rows) is silent
        assert (
            f"no ranks: where more than {MOST_ROWS} rows" not in FORMATS["md"]([section], FIRST)
        ) is silent


def test_accuracy_stands_in_the_row_of_the_same_weights_and_no_other():
    found = rows(suite(), [accuracy([1, 1, 1, 0]), accuracy([1, 1], "vit_vanilla", "cd" * 32)])
    assert found["vit_mjp", "none", "pe_ls"]["top1"] == 75.0
    assert "top1" not in found["vit_vanilla", "none", "pe_ls"], "other weights"
    defended = rows(images([5.0], defense=["noise"]), [accuracy([1, 1, 1, 0])])
    assert "top1" not in defended["vit_mjp", "noise", "pe_ls"], "not trained under that defense"


def test_the_strongest_attack_stands_for_all_and_the_oracle_takes_the_best_of_each_picture():
    records = images([10, 50], attack="dlg") + images([40, 30], attack="pe_ls")
    found = rows(records, by=["model", "defense"])
    row = found["vit_mjp", "none", "pe_ls"]
    assert len(found) == 1
    assert (row["psnr"], row["psnr_oracle"]) == (35.0, 45.0)


@pytest.mark.parametrize(
    ("pictures", "score", "strongest"),
    [((1, 3), 45.0, "dlg"), ((1, 3), 55.0, "pe_ls"), ((4, 5), 45.0, "pe_ls")],
    ids=["easy ones", "better on them", "none in common"],
)
def test_attacks_are_compared_on_the_pictures_of_both(pictures, score, strongest):
    many = images([10, 50, 10, 50], attack="dlg")
    few = [done([score], [8.0], images=(i,), attack="pe_ls") for i in pictures]
    [row] = rows([*few, *many], by=["model", "defense"]).values()
    assert row["attack"] == strongest


def test_seeds_that_are_left_out_are_the_mean_of_each_picture():
    records = images([10, 20]) + images([30, 20], seed=1)
    [section] = board(records, by=["model", "defense", "attack"])
    [row] = section.rows
    assert (row["n"], row["psnr"], row["psnr_lo"], row["psnr_hi"]) == (2, 20.0, 20.0, 20.0)
    assert "seed" not in section.protocol


def test_pictures_of_one_batch_are_one_unit():
    apart = rows(images([10, 90] * 8))["vit_mjp", "none", "pe_ls"]
    batches = [
        done([score] * 4, images=tuple(range(4 * i, 4 * i + 4)))
        for i, score in enumerate([10.0, 90.0, 10.0, 90.0])
    ]
    together = rows(batches)["vit_mjp", "none", "pe_ls"]
    assert (apart["psnr"], together["psnr"], together["n"]) == (50.0, 50.0, 16)
    assert together["psnr_hi"] - together["psnr_lo"] > apart["psnr_hi"] - apart["psnr_lo"]


def test_the_share_that_was_proved_counts_pictures_of_proved_updates():
    sure = replace(done([100.0, 100.0], images=(0, 1)), report={"certified": 1.0})
    unsure = replace(done([100.0, 9.0], images=(2, 3)), report={"certified": 0.0})
    row = rows([sure, unsure])["vit_mjp", "none", "pe_ls"]
    assert (row["proved"], row["exact"]) == (50.0, 75.0)
    assert "proved" not in rows(images([100.0]))["vit_mjp", "none", "pe_ls"], "nobody proves"


def test_the_leakiest_pictures_have_a_column_where_there_are_enough():
    many = rows(images(range(FEWEST)))["vit_mjp", "none", "pe_ls"]
    assert many["psnr_p95"] == pytest.approx(np.quantile(range(FEWEST), 0.95))
    assert "psnr_p95" not in rows(images(range(FEWEST - 1)))["vit_mjp", "none", "pe_ls"]


def test_a_defense_that_no_attack_made_for_it_has_faced_is_unranked():
    alone = rows(suite())["vit_mjp", "none", "pe_ls"]
    assert alone["rank"] is None
    assert alone["flags"] == "unranked"
    assert "made for mjp" in alone["notes"]
    answered = rows([*suite(), *images(range(20, 44), attack="span")])
    assert answered["vit_mjp", "none", "pe_ls"]["rank"] is not None
    assert not answered["vit_mjp", "none", "pe_ls"]["flags"]


def test_flags_say_what_forbids_to_believe_a_row():
    sized = part("vit_mjp", **SIZES)
    weak = images([8.2] * 24, model=sized) + images([8.4] * 24, model="vit_vanilla")
    doubtful = [replace(r, warnings=(f"{AMBIGUOUS} (a and b)",)) for r in images([50.0])]
    unexplained = [replace(r, warnings=(f"{OPEN}: more",)) for r in images([9.0] * 4)]
    cases = {
        "void": weak,
        "no control": images([50.0]),
        "few pictures": images([50.0]),
        "ambiguous": doubtful,
        "open": unexplained[:3] + images([50.0] * 4)[3:],
    }
    for name, records in cases.items():
        key = next(key for key in rows(records) if key[0].startswith("vit_mjp"))
        assert name in rows(records)[key]["flags"].split(", ")
    half = rows(unexplained[:1] + images([50.0] * 2)[1:])["vit_mjp", "none", "pe_ls"]
    assert "open" not in half["flags"]
    guess = accuracy([1, 0, 0, 0, 0, 0, 0, 0, 0, 0], sized.label)
    row = rows(images([50.0], model=sized), [guess])[sized.label, "none", "pe_ls"]
    assert "at chance" in row["flags"]
    assert rows(suite())["vit_mjp", "none", "pe_ls"]["flags"] == ""


@pytest.mark.parametrize("odd", ["ten", 0, -1, None, 1e308])
def test_an_odd_number_of_classes_raises_no_flag(odd):
    model = part("vit_mjp", num_classes=odd)
    row = rows(images([50.0], model=model), [accuracy([0, 1], model.label)])
    assert "at chance" not in row[model.label, "none", "pe_ls"]["flags"]


@pytest.mark.parametrize("note", [AMBIGUOUS, OPEN])
def test_the_notes_that_raise_a_flag_are_what_the_ensemble_says(note):
    assert note in (ROOT / "attacks" / "auto.py").read_text(encoding="utf-8")


def test_failed_pictures_are_a_row_without_rank():
    found = rows([*suite(), lost(attack="april"), lost("refused", "no", attack="april", seed=0)])
    row = found["vit_mjp", "none", "april"]
    assert (row["n"], row["rank"]) == (0, None)
    assert "psnr" not in row


def test_only_keys_can_be_gone_by():
    with pytest.raises(UnknownName, match="Did you mean 'model'"):
        board(suite(), by=["modell"])


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_the_same_rows_in_the_same_order_with_the_same_digits(name):
    sections = board(suite())
    text = FORMATS[name](sections, shown(sections, name == "csv"))
    places = [text.index(one) for one in ("61.5", "31.5", "21.5")]
    assert places == sorted(places)


def test_csv_has_a_column_for_each_end_and_nothing_where_nothing_was_measured():
    sections = board([*suite(), *images([50.0], model="vit_nope")])
    lines = list(csv.DictReader(io.StringIO(FORMATS["csv"](sections, shown(sections, True)))))
    by_model = {(line["model"], line["defense"]): line for line in lines}
    row = by_model["vit_mjp", "none"]
    assert (row["psnr"], row["lost"], row["lost_lo"]) == ("31.5", "30.0", "30.0")
    assert by_model["vit_nope", "none"]["psnr_lo"] == "", "one picture has no interval"
    assert "top1_lo" not in row, "nobody measured it"


def test_no_format_lets_a_label_break_the_table():
    evil = "a|b & <script>alert(1)</script> $x_1$"
    sections = board(images([10.0, 20.0], model=evil, control=None))
    texts = {name: make(sections, shown(sections, False)) for name, make in FORMATS.items()}
    assert "<script>" not in texts["html"]
    assert r"a\|b" in texts["md"]
    assert "<script" not in texts["md"].replace(r"\<", "")
    assert r"\& <script>alert(1)</script> \$x\_1\$" in texts["latex"]
    [line] = csv.DictReader(io.StringIO(texts["csv"]))
    assert line["model"] == evil
    html.parser.HTMLParser().feed(texts["html"])


def test_at_most_eight_columns_stand_first():
    sections = board(suite(), [accuracy([1, 0])])
    assert len(FIRST) == len(shown(sections, False)) == 8
    names = [column.name for column in shown(sections, True)]
    assert len(names) == len(set(names)) > 12


def test_figures_of_other_commands_join_by_the_names_that_they_give(tmp_path):
    (tmp_path / "joined").mkdir()
    table = pd.DataFrame({"model": ["vit_mjp"], "defense": ["none"], "ceiling": [42.25]})
    table.to_csv(tmp_path / "joined" / "ceiling.csv", index=False)
    found = rows(suite(), (), joined(tmp_path))
    assert found["vit_mjp", "none", "pe_ls"]["ceiling"] == 42.25
    assert "ceiling" not in found["vit_vanilla", "none", "pe_ls"]
    sections = board(suite(), (), joined(tmp_path))
    assert [column.name for column in groups(sections)["more"]] == ["ceiling"]
    assert "more" not in groups(board(suite())), "no column without a figure"


def joined_to(tmp_path, name, **columns):
    (tmp_path / "joined").mkdir(exist_ok=True)
    pd.DataFrame(columns).to_csv(tmp_path / "joined" / f"{name}.csv", index=False)
    return joined(tmp_path)


def test_ceiling_and_price_stand_first_beside_floor_and_leak(tmp_path):
    joined_to(tmp_path, "ceiling", model=["vit_mjp"], seed=[0], ceiling=[42.25], ceiling_lo=[40.0])
    ends = {"price_points_lo": [0.5], "price_points_hi": [2.5]}
    tables = joined_to(
        tmp_path, "price", model=["vit_mjp"], defense=["none"], price_points=[1.5], **ends
    )
    sections = board(suite(), (), tables)
    names = [column.name for column in first(sections)]
    ladder = ["psnr_floor", "psnr", "ceiling", "price_points"]
    assert names == ["victim", "attack", "n", *ladder, "flags"]
    cells = {c.name: c.cell(rows(suite(), (), tables)["vit_mjp", "none", "pe_ls"]) for c in DERIVED}
    assert cells == {"ceiling": "42.2", "price_points": "1.5 (0.5 to 2.5)"}
    measured = board(suite(), [accuracy([1, 0])], tables)
    assert [column.name for column in first(measured)] == names
    everything = [column.name for column in shown(measured, True)]
    ladder = ["psnr_floor", "psnr", "psnr_oracle", "ceiling", "price_points", "psnr_control"]
    assert everything[:11] == ["rank", "victim", "attack", "n", *ladder, "top1"]
    assert len(everything) == len(set(everything))
    (tmp_path / "joined" / "ceiling.csv").unlink()
    alone = [column.name for column in first(board(suite(), (), joined(tmp_path)))]
    assert alone == ["rank", "victim", "attack", "n", "psnr_floor", "psnr", "price_points", "flags"]
    assert first(board(suite())) == list(FIRST)


def test_a_ceiling_of_one_picture_stands_beside_no_batch(tmp_path):
    tables = joined_to(tmp_path, "ceiling", model=["vit_mjp"], ceiling=[42.0], price_points=[1.0])
    batch = [done([9.0, 8.0], [7.0, 7.0], images=(0, 1))]
    [row] = rows(batch, (), tables).values()
    assert ("ceiling" in row, row["price_points"]) == (False, 1.0)
    [row] = rows([done(knows=["labels"])], (), tables).values()
    assert row["ceiling"] == 42.0
    said = joined_to(
        tmp_path, "ceiling", model=["vit_mjp"], threat=["knows nothing, batch 2"], ceiling=[40.0]
    )
    assert rows(batch, (), said)["vit_mjp", "none", "pe_ls"]["ceiling"] == 40.0


def test_what_was_measured_is_not_overwritten_and_digits_are_no_number(tmp_path):
    sha = "12e456789012" + "0" * 52
    records = [done([9.0], weights_sha256=sha)]
    tables = joined_to(
        tmp_path,
        "odd",
        model=["vit_mjp"],
        weights_sha256=[sha[:12]],
        psnr=[99.0],
        n=[7],
        notes=["mine"],
        extra=[3.0],
    )
    [row] = rows(records, (), tables).values()
    assert (row["psnr"], row["n"], row["extra"]) == (9.0, 1, 3.0)
    assert row["notes"] != "mine"


def test_a_digest_that_looks_like_a_number_joins_as_it_stands(tmp_path):
    (tmp_path / "joined").mkdir()
    text = "model,weights_sha256,ceiling\nvit,1e5000000000,3\n"
    (tmp_path / "joined" / "ceiling.csv").write_text(text)
    row = {"model": "vit", "weights_sha256": "1e5000000000", "threat": "knows nothing, batch 1"}
    assert figures(joined(tmp_path), row) == {"ceiling": 3}


@pytest.mark.parametrize("text", ["", "ceiling\n1\n", "model\nvit_mjp\n"])
def test_a_table_that_says_nothing_is_refused(tmp_path, text):
    (tmp_path / "joined").mkdir()
    (tmp_path / "joined" / "odd.csv").write_text(text)
    with pytest.raises(BadData, match=r"odd\.csv"):
        joined(tmp_path)


def test_every_flag_is_explained_once():
    assert all(what and not what.endswith(".") for what in FLAGS.values())
