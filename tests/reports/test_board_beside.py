"""What stands beside a leak: a control under the same attack and version, a price and its form."""

from privbench.reports.board import board
from privbench.reports.board_columns import shown
from privbench.reports.formats import FORMATS
from tests.reports.test_board import images, joined_to, rows, suite
from tests.sample_records import part


def test_a_pooled_row_is_compared_under_attacks_that_its_control_met_too():
    some = images(range(50, 74), model="vit_vanilla", control=None)
    some += images([8.5] * 24, model="vit_vanilla", control=None, attack="dlg")
    some += images([8.2] * 24, attack="dlg")
    row = rows(some, by=["model", "defense"])["vit_mjp", "none", "dlg"]
    assert (row["psnr_control"], round(row["lost"], 1)) == (8.5, 0.3)
    assert "void" in row["flags"]
    both = rows([*some, *images([20.0] * 24)], by=["model", "defense"])["vit_mjp", "none", "pe_ls"]
    assert (both["psnr_control"], both["lost"], both["lost_p"] < 0.01) == (61.5, 41.5, True)
    alone = [one for one in some if one.case.attack.name == "pe_ls" or one.case.control]
    row = rows(alone, by=["model", "defense"])["vit_mjp", "none", "dlg"]
    assert "no control" in row["flags"]
    assert "lost" not in row


def test_versions_stand_in_the_row_and_a_control_of_another_is_told():
    old, new = part("pe_ls", 4), part("pe_ls", 5)
    some = images(range(50, 74), model="vit_vanilla", control=None, attack=old)
    some += images([90.0] * 24, attack=old) + images([20.0, 30.0], attack=new)
    row = rows(some)["vit_mjp", "none", "pe_ls"]
    assert (row["n"], row["version"], row["psnr"]) == (2, 5, 25.0)
    assert "Older versions alone have 22 more cases" in row["notes"]
    assert "another version of pe_ls (4) than this row (5)" in row["notes"]


def test_a_price_says_how_long_its_training_was(tmp_path):
    price = {"model": ["vit_mjp"], "price_points": [1.5], "price_form": ["short"]}
    sections = board(suite(), (), joined_to(tmp_path, "price", **price))
    columns = shown(sections, True)
    [form] = [column for column in columns if column.name == "price_form"]
    assert {form.cell(row) for section in sections for row in section.rows} == {"", "short"}
    assert form.name in FORMATS["csv"](sections, columns).splitlines()[0].split(",")
    [points] = [column for column in columns if column.name == "price_points"]
    assert form.heading in points.meaning
    old = joined_to(tmp_path, "price", **{k: v for k, v in price.items() if k != form.name})
    assert form not in shown(board(suite(), (), old), True), "a table of an earlier version"
