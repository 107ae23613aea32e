"""A defense is ranked only after an attack that is made for it has run."""

from typing import Any

import pytest

from privbench.component import find, names
from privbench.defense import Defense
from privbench.reports.leaderboard import leaderboard
from privbench.reports.unranked import answers
from tests.sample_records import done, lost, part

PLAIN: dict[str, Any] = {"model": "vit_vanilla"}


def notes(*records):
    return leaderboard(records)["notes"].tolist()


@pytest.mark.parametrize("name", names("defenses"))
def test_every_defense_names_attacks_that_are_there_and_tables_read_them(name):
    named = find(Defense, name).answered_by
    assert named
    assert set(named) <= set(names("attacks"))
    assert answers(name) == named


def test_a_defense_that_met_only_others_is_unranked_and_the_note_says_what_to_run():
    (note,) = notes(done(attack="gradinv", defense=("noise",), **PLAIN))
    assert note == (
        "Unranked: no attack that is made for noise has run here; take one of auto, pe_ls, map."
    )


def test_one_attack_that_answers_ranks_all_rows_of_its_situation_and_no_other():
    other = done(attack="gradinv", defense=("prune",), **PLAIN)
    found = notes(
        done(attack="gradinv", defense=("noise",), **PLAIN),
        done(attack="pe_ls", defense=("noise",), **PLAIN),
        other,
    )
    assert sum("Unranked" in note for note in found) == 1
    assert "made for prune" in "".join(found)


def test_an_attack_that_failed_answers_nothing():
    found = notes(
        done(attack="gradinv", defense=("noise",), **PLAIN),
        lost(attack="pe_ls", defense=("noise",), **PLAIN),
    )
    assert sum("Unranked" in note for note in found) == 1


def test_each_defense_of_a_row_and_of_the_model_asks_for_its_own():
    stacked = notes(done(attack="pe_ls", defense=("noise", "withhold"), **PLAIN))
    assert "made for withhold" in stacked[0]
    assert "made for mjp" in notes(done(attack="pe_ls", model="vit_mjp"))[0]
    assert "Unranked" not in notes(done(attack="span", model="vit_mjp"))[0]


def test_a_victim_that_is_its_own_control_has_no_defense_in_it_whatever_its_scheme_is_called():
    other = part("vit_of_mine", scheme="mjp", depth=1)
    asks = notes(done(attack="gradinv", model=other, control="vit_vanilla"))
    assert "made for mjp" in asks[0], "the record says the scheme, also of a victim unknown here"
    assert notes(done(attack="gradinv", model=other, control=other.label)) == [""]


def test_no_defense_and_one_that_is_unknown_here_ask_for_none():
    assert notes(done(attack="gradinv", **PLAIN)) == [""]
    gone = done(attack="gradinv", defense=("gone",), model="gone", control=None)
    assert "Unranked" not in notes(gone)[0]
