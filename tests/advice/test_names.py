"""What an advice names is there: commands, options, settings, components, models, pages."""

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import typer.main

from privbench.attack import Attack
from privbench.cli.main import app
from privbench.component import Component, find, names
from privbench.dataset import Dataset
from privbench.defense import Defense
from privbench.evaluation import Evaluation
from privbench.threat import ThreatModel
from privbench.training.recipe import Recipe
from privbench.victims.load import known_settings
from privbench.victims.preset import Preset, model_preset, preset_names
from tests.advice.sites import ROOT, Site, sites

SHELVES: dict[str, type[Component]] = {
    "attack": Attack,
    "dataset": Dataset,
    "defense": Defense,
    "eval": Evaluation,
}
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*(?![\w{-])")
SETTING = re.compile(
    r"\b(attack|dataset|defense|eval|model|threat|train)\.([a-z]\w*)(?=[ =,.;`)]|$)"
)
COMMAND = re.compile(r"`privbench ([a-z-]+)([^`]*)`")
NAMED = re.compile(r"--(attack|dataset|defense|eval|model) ([a-z]\w+)")
ELSEWHERE = {"--head", "--nproc-per-node"}
"""Options of other programs."""


def commands(group: Any, above: str = "") -> dict[str, set[str]]:
    """Return the options of each command, by its words."""
    found: dict[str, set[str]] = {}
    for name, one in getattr(group, "commands", {}).items():
        found[f"{above}{name}"] = {flag for p in one.params for flag in p.opts}
        found |= commands(one, f"{above}{name} ")
    return found


KNOWN = commands(typer.main.get_command(app))
SITES = sites()


def settings_of(section: str) -> set[str]:
    """Return all settings that --set takes in a section."""
    if section == "threat":
        return set(ThreatModel.__dataclass_fields__)
    if section == "train":
        return set(Recipe.model_fields)
    if section == "model":
        presets = [*map(model_preset, preset_names("models")), Preset(summary="", timm="x")]
        return {key for preset in presets for key in known_settings(preset)}
    kind = SHELVES[section]
    return {key for name in names(kind.shelf) for key in find(kind, name).setting_names()}


@pytest.mark.parametrize("site", SITES, ids=lambda site: f"{Path(site.file).stem}-{site.text[:30]}")
def test_an_advice_names_what_is_there(site: Site):
    options = set().union(*KNOWN.values()) | ELSEWHERE
    assert set(OPTION.findall(site.text)) <= options
    for section, key in SETTING.findall(site.text):
        assert key in settings_of(section), f"{section}.{key}"
    for command, rest in COMMAND.findall(site.text):
        assert command in KNOWN
        assert set(OPTION.findall(rest)) <= KNOWN[command]
        if command in ("list", "show") and "{" not in rest and "NAME" not in rest:
            shelf = rest.split()[0]
            assert shelf in ("models", "suites", "metrics") or shelf in {
                kind.shelf for kind in SHELVES.values()
            }
    for option, name in NAMED.findall(site.text):
        known = preset_names("models") if option == "model" else names(SHELVES[option].shelf)
        assert name in [*known, "and", "or", "out"]
    for name in re.findall(r"timm:([a-z]\w+)", site.text):
        assert name in timm.list_models()
    for page in re.findall(r"docs/[\w/.]+md", site.text):
        assert (ROOT / page).is_file()


def test_names_are_found():
    assert {"run", "eval", "train", "import-weights", "study pe"} <= KNOWN.keys()
    assert "--set" in KNOWN["run"]
    assert len(SITES) > 60
