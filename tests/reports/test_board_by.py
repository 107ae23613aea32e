"""What `--by` changes: attack and seed may be left out, and all other columns tell rows apart."""

import pytest

from privbench.errors import BadSetting
from privbench.reports.board import board
from tests.sample_records import done

RECORDS = [
    done((10.0 + image + seed + 5 * (attack == "auto"),), attack=attack, images=(image,), seed=seed)
    for attack in ("mean", "auto")
    for image in (0, 1)
    for seed in (0, 1)
]


@pytest.mark.parametrize("by", [["attack", "seed"], ["model", "attack", "seed", "threat"]])
def test_naming_other_columns_than_attack_and_seed_changes_no_row(by):
    assert board(RECORDS, by=by) == board(RECORDS)


@pytest.mark.parametrize(("by", "rows"), [("attack", 2), ("seed", 2), ("model", 1)])
def test_only_leaving_out_attack_or_seed_makes_fewer_rows(by, rows):
    assert sum(len(section.rows) for section in board(RECORDS)) == 4
    assert sum(len(section.rows) for section in board(RECORDS, by=[by])) == rows


def test_a_name_given_twice_is_refused():
    with pytest.raises(BadSetting, match="have 'model' twice"):
        board(RECORDS, by=["model", "defense", "model"])
