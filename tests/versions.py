"""Pins every component's version to its code: `python -m tests.versions --pin NAME ...|all`.

A digest is of the syntax trees, without comments and docstrings, of a component's module and of
all that it imports of its own shelf and of the corruptions. A component whose digest changed is
pinned anew where its version was raised, or where its golden cases give the answers that are on
file. Where it has none, --unproved says that the one who pins it knows that no answer changed.
"""

import argparse
import ast
import hashlib
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from privbench.attack import Attack
from privbench.component import Component, find, names
from privbench.dataset import Dataset
from privbench.defense import Defense
from privbench.evaluation import Evaluation
from privbench.metric import Metric
from tests.golden_cases import Numbers, answers

ROOT = Path(__file__).parents[1]
PINS = ROOT / "tests/golden/versions.json"
ANSWERS = ROOT / "tests/golden/answers.json"
SHELVES: dict[str, type[Component]] = {
    kind.shelf: kind for kind in (Attack, Dataset, Defense, Evaluation, Metric)
}
BELOW = ("corruptions",)
"""Packages that components of several shelves build on."""
RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""How far golden answers may be apart: rounding on another processor, carried through few steps."""

Pin = dict[str, Any]


def components() -> list[str]:
    """Return SHELF/NAME of every component."""
    return [f"{shelf}/{name}" for shelf in sorted(SHELVES) for name in names(shelf)]


def pin_of(component: str) -> Pin:
    """Return a component's version and digest."""
    shelf, name = component.split("/")
    version = find(SHELVES[shelf], name).version
    found = hashlib.sha256()
    for module in sorted(closure(f"privbench.{shelf}.{name}")):
        found.update(f"{module}\n{tree(module)}\n".encode())
    return {"version": version, "digest": found.hexdigest()}


def closure(module: str) -> set[str]:
    """Return a module and all that it imports, at any depth, of its shelf and of what is below."""
    shelf = module.split(".")[1]
    found: set[str] = set()
    waiting = [module]
    while waiting:
        one = waiting.pop()
        if one in found or place(one) is None:
            continue
        found.add(one)
        waiting += [name for name in imports(one) if name.split(".")[1] in (shelf, *BELOW)]
    return found


def place(module: str) -> Path | None:
    """Return a module's file, if it is one."""
    path = ROOT / module.replace(".", "/")
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


@cache
def parsed(module: str) -> ast.Module:
    """Return a module's syntax tree."""
    file = place(module)
    assert file is not None
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(module: str) -> set[str]:
    """Return what a module imports of the project, wherever in it."""
    return imported(parsed(module))


def imported(code: ast.Module) -> set[str]:
    """Return what a syntax tree imports of the project."""
    found: set[str] = set()
    for node in ast.walk(code):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("privbench.")}


@cache
def tree(module: str) -> str:
    """Return a module's syntax tree as text: no comment, no docstring, no version."""
    return text_of(parsed(module))


def text_of(node: object) -> str:
    """Return a syntax tree as text; strings that stand alone say something and do nothing.

    Like ast.dump, but what is empty is left out, so that every Python gives the same text.
    """
    if isinstance(node, list):
        return f"[{','.join(text_of(one) for one in node if not _is_silent(one))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    parts = [
        f"{field}={text_of(value)}"
        for field, value in ast.iter_fields(node)
        if value is not None and value != [] and field not in ("ctx", "kind", "type_comment")
    ]
    return f"{type(node).__name__}({','.join(parts)})"


def _is_silent(line: object) -> bool:
    return (
        isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Constant)
        and isinstance(line.value.value, str)
    )


def complaint(component: str, pins: dict[str, Pin]) -> str | None:
    """Say why a component does not fit its pin, and what to do; None where it does."""
    now, pin = pin_of(component), pins.get(component)
    if now == pin:
        return None
    again = f"`python -m tests.versions --pin {component}`"
    if pin is None:
        return f"{component} is not pinned yet. Run {again}."
    if now["version"] > pin["version"]:
        return f"{component} has a new version. Run {again}."
    if now["version"] < pin["version"]:
        return f"{component} has a lower version than records hold. Raise it above the pinned one."
    return (
        f"The code of {component} changed and its version did not. If its results change, raise "
        f"the version; then, or if they do not, run {again}."
    )


def pin(wanted: list[str], *, unproved: bool) -> list[str]:
    """Pin components whose answers are those on file; return why others are not."""
    pins, known = read(PINS), read(ANSWERS)
    refused: list[str] = []
    for component in wanted:
        now, old = pin_of(component), pins.get(component)
        if now == old and (component in known or not has_cases(component)):
            continue
        found = answers(*component.split("/"))
        raised = old is None or now["version"] > old["version"]
        if not raised and not found and not unproved:
            refused.append(f"{component} has no golden case. Raise its version, or add --unproved.")
        elif not raised and (apart := difference(found, known.get(component, {}))):
            refused.append(f"{component} answers otherwise ({apart}). Raise its version.")
        else:
            pins[component] = now
            if found and (raised or component not in known):
                known[component] = found
    write(PINS, {one: pins[one] for one in components() if one in pins})
    write(ANSWERS, {one: known[one] for one in components() if one in known})
    return refused


def has_cases(component: str) -> bool:
    """Say whether a component's shelf has golden cases that it takes part in."""
    shelf, name = component.split("/")
    return shelf in ("attacks", "defenses", "metrics") or name in ("cifar10", "photos")


def difference(found: Numbers, known: Numbers) -> str:
    """Say where answers differ from those on file by more than rounding; empty where nowhere."""
    if found.keys() != known.keys():
        return f"cases {', '.join(found) or 'none'} instead of {', '.join(known) or 'none'}"
    for case, values in found.items():
        if values != pytest.approx(known[case], rel=RELATIVE, abs=ABSOLUTE, nan_ok=True):
            return f"{case}: {values[:3]} instead of {known[case][:3]}"
    return ""


def read(path: Path) -> dict[str, Any]:
    """Return what is pinned; empty without a file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a line for each component, so that a difference names it."""
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(content.items())]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main() -> None:
    """Pin what is asked for; exit code 1 where something is refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pin", nargs="+", required=True, metavar="SHELF/NAME")
    parser.add_argument("--unproved", action="store_true")
    given = parser.parse_args()
    wanted = components() if given.pin == ["all"] else given.pin
    refused = pin(wanted, unproved=given.unproved)
    sys.stdout.write("\n".join([*refused, f"{len(wanted) - len(refused)} pinned.\n"]))
    sys.exit(1 if refused else 0)


if __name__ == "__main__":
    main()
