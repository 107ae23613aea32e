"""Reference pages in Markdown, generated from the shelves."""

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from privbench.cli.catalog import PRESETS, entries
from privbench.cli.settings import base, settings
from privbench.cli.show import HEADINGS
from privbench.component import Component, find, label
from privbench.roles import NAMES as ROLES
from privbench.victims.cards import bundled, card
from privbench.victims.preset import Preset, model_preset, read_preset

TITLES = {"models": "Victims", "datasets": "Data sets", "evals": "Evaluations"}
"""Where a page is not called as its shelf is."""
OPTIONS = {
    "attacks": "run --attack",
    "defenses": "run --defense",
    "datasets": "run --dataset",
    "evals": "eval --eval",
    "models": "run --model",
    "suites": "run --suite",
}
SIZES = ("img_size", "patch_size", "embed_dim", "depth", "num_heads", "num_classes")
ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
DOI = re.compile(r"doi:(10\.\S+)")


def page(shelf: str) -> str:
    """Return the page of a shelf; raises UnknownName."""
    found = entries(shelf)
    parts = [f"# {TITLES.get(shelf, shelf.capitalize())}", _origin(shelf)]
    if shelf == "models":
        parts += _victims({one.name: model_preset(one.name) for one in found})
    elif shelf == "suites":
        for one in found:
            parts += _suite(one.name, one.summary)
    else:
        rows = [(f"[`{one.name}`](#{one.name})", one.summary) for one in found]
        parts.append(_table(("name", "what it does"), rows))
        for one in found:
            parts += _component(shelf, one.name)
    return "\n\n".join(parts) + "\n"


def _origin(shelf: str) -> str:
    usage = f" Use one with `privbench {OPTIONS[shelf]} NAME`." if shelf in OPTIONS else ""
    return (
        f"Generated from the source by `privbench list {shelf} --format md`; `make docs` writes it "
        f"anew.{usage}"
    )


def _component(shelf: str, name: str) -> list[str]:
    """Return heading, docstring, facts and settings."""
    kind = find(base(shelf), name)
    facts = [f"Source: {_linked(kind.paper)}." if kind.paper else "", f"Version {kind.version}."]
    for key, heading in HEADINGS.items():
        if wanted := sorted(getattr(kind, key, ())):
            said = (ROLES.get(one, f"`{one}`") for one in wanted)
            facts.append(f"{heading}: {'; '.join(said)}.")
    facts += _particulars(kind)
    rows = [(f"`{one.name}`", one.default, one.values, one.note) for one in settings(kind)]
    table = _table(("setting", "default", "values", ""), rows) if rows else "No settings."
    return [f"## {name}", inspect.getdoc(kind) or "", " ".join(filter(None, facts)), table]


def _particulars(kind: type[Component]) -> list[str]:
    """Return what only some shelves have."""
    found = []
    if demanded := getattr(kind, "demands", None):
        options = " ".join(f"--set model.{key}={value}" for key, value in demanded.items())
        found.append(f"Asks for a victim with `{options}`.")
    if getattr(kind, "malicious", False):
        found.append("Needs `--set threat.server=malicious`.")
    if revealed := sorted(getattr(kind, "reveals", ())):
        found.append(f"Anybody can read off the update: {', '.join(revealed)}.")
    if answers := getattr(kind, "answered_by", ()):
        found.append(f"Attacks made for it: {', '.join(f'`{one}`' for one in answers)}.")
    if (higher := getattr(kind, "higher_is_better", None)) is not None:
        found.append(f"{'Higher' if higher else 'Lower'} leaks more.")
    if unit := getattr(kind, "unit", ""):
        found.append(f"In {unit}.")
    return found


def _victims(presets: Mapping[str, Preset]) -> list[str]:
    """Return what each is, its sizes, and its scheme, in tables that fit a page."""
    what = [(f"`{name}`", one.summary, _accuracy(name)) for name, one in presets.items()]
    sizes = [
        (f"`{name}`", *(str(one.architecture.get(key, "")) for key in SIZES))
        for name, one in presets.items()
    ]
    schemes = [
        (f"`{name}`", one.scheme, ", ".join(f"`{k}={v}`" for k, v in one.settings.items()))
        for name, one in presets.items()
    ]
    return [
        "`--model timm:NAME` takes a vision transformer of timm, `--model FILE.py:FACTORY` yours.",
        _table(("name", "what it is", "trained weights, top-1"), what),
        "The last column says for which victims trained weights come along, and how often they "
        "are right on the test pictures (Wilson's 95 % interval); `privbench show NAME` prints "
        "how they were trained. The others start from `--weights init`.",
        "## Sizes",
        "Each heading is a setting: `--set model.depth=2`.",
        _table(("name", *SIZES), sizes),
        "## Schemes",
        "The defense in the model; its settings ([all of them](defenses.md)) are the victim's, "
        "such as `--set model.ratio=0.5`.",
        _table(("name", "scheme", "settings that differ"), schemes),
    ]


def _accuracy(name: str) -> str:
    """Return the accuracy of the weights that come along, in percent."""
    if (path := bundled(name)) is None or not (found := card(path)):
        return ""
    low, high = (100 * one for one in found["accuracy interval (Wilson, 95 %)"])
    return f"{100 * found['accuracy']:.1f} % ({low:.1f} to {high:.1f})"


def _suite(name: str, summary: str) -> list[str]:
    content = {k: v for k, v in read_preset(PRESETS[1], name).items() if k != "summary"}
    blocks = content.pop("blocks", [])
    rows = [(f"`{key}`", _names(value)) for key, value in content.items()]
    rows += [(f"block {number}", _block(one)) for number, one in enumerate(blocks, 1)]
    command = f"```\nprivbench run --suite {name}\n```"
    return [f"## {name}", summary, command, _table(("field", "value"), rows)]


def _block(block: Mapping[str, Any]) -> str:
    return "; ".join(f"{key}: {_names(value)}" for key, value in block.items())


def _names(value: Any) -> str:
    """Return values of a field: names with their settings, mappings as they are written."""
    listed = value if isinstance(value, list) else [value]
    return ", ".join(f"`{_name(one)}`" for one in listed)


def _name(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    if "name" in value:
        return label(str(value["name"]), value.get("settings", {}))
    return ", ".join(f"{key}={one}" for key, one in value.items()) or "the default"


def _linked(source: str) -> str:
    source = ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", source)
    return DOI.sub(r"[doi:\1](https://doi.org/\1)", source)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    escaped = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
