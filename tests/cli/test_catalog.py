"""What a component needs is said in words, without importing it."""

import ast

import pytest

from privbench.attack import Attack
from privbench.cli.catalog import SHELVES, entries, find_all
from privbench.cli.settings import base, settings
from privbench.cli.show import sheet
from privbench.component import find, names
from privbench.dataset import Dataset
from privbench.declared import UNREAD, words


def read(text: str, module: str = "privbench.attack") -> list[str]:
    return words(ast.parse(text, mode="eval").body, module)


@pytest.mark.parametrize("shelf", SHELVES)
def test_nothing_in_it_is_source_code(shelf):
    for entry in entries(shelf):
        assert entry.summary.endswith(".")
        assert not set(entry.needs) & set("(){}[]|\"'."), entry


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("frozenset()", []),
        ("frozenset({Knowledge.LABELS, 'stem'})", ["labels", "stem"]),
        ("frozenset({ViT.A_B}) | frozenset({ViT.C})", ["a b", "c"]),
        ("('backbone.pos_embed', 'backbone.pos_embed')", ["pos_embed"]),
        ("frozenset(f(one) for one in (1, 2))", [UNREAD]),
        ("no_such_name", [UNREAD]),
    ],
)
def test_an_expression_is_read_without_running_it(text, expected):
    assert read(text) == expected


def test_a_constant_is_followed_into_the_file_that_it_comes_from():
    assert read("PRESETS", "privbench.cli.reference") == ["models", "suites"]
    assert read("UNREAD", "privbench.cli.catalog") == ["unread"]


def test_bounds_and_choices_are_said_in_words():
    found = {one.name: one for one in settings(find(Attack, "gradinv"))}
    assert found["steps"].values == "whole number, from 1"
    assert found["mask"].values == "inferred or ignored"
    assert found["mask"].note
    inherited = {one.name for one in settings(find(Dataset, "cifar10"))}
    assert "root" in inherited


@pytest.mark.parametrize("name", names("attacks"))
def test_every_attack_can_be_shown(name):
    for entry in find_all(name):
        assert sheet(entry)


@pytest.mark.parametrize("shelf", ["attacks", "defenses"])
def test_sources_are_read_as_they_are(shelf):
    for entry in entries(shelf):
        assert entry.paper == find(base(shelf), entry.name).paper, entry.name
