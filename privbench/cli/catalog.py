"""What is on the shelves, read from the files without importing them."""

import ast
from dataclasses import dataclass

from privbench.cli.constants import UNREAD, source, words
from privbench.component import names
from privbench.errors import UnknownName
from privbench.victims.preset import preset_names, read_preset

SHELVES = ("attacks", "defenses", "datasets", "metrics", "evals")
PRESETS = ("models", "suites")
NEEDS = ("needs", "roles")
"""Class attributes that say what a component cannot do without."""


@dataclass(frozen=True)
class Entry:
    """A component or preset: where it stands and what its author says of it."""

    shelf: str
    name: str
    summary: str
    needs: str = ""


def entries(shelf: str) -> list[Entry]:
    """Return all that a shelf holds; raises UnknownName."""
    if shelf in SHELVES:
        return [_component(shelf, name) for name in names(shelf)]
    if shelf in PRESETS:
        return [
            Entry(shelf, n, read_preset(shelf, n).get("summary", "")) for n in preset_names(shelf)
        ]
    raise UnknownName("shelf", shelf, (*SHELVES, *PRESETS))


def find_all(name: str) -> list[Entry]:
    """Return entries of that name on any shelf; raises UnknownName with the nearest."""
    everything = [entry for shelf in (*SHELVES, *PRESETS) for entry in entries(shelf)]
    if found := [entry for entry in everything if entry.name == name]:
        return found
    raise UnknownName("component or preset", name, {entry.name for entry in everything})


def _component(shelf: str, name: str) -> Entry:
    module = f"privbench.{shelf}.{name}"
    kind = _main_class(source(module))
    summary = (ast.get_docstring(kind) or "").partition("\n")[0]
    found: list[str] = []
    for node in kind.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=key), value=ast.expr() as value) if key in NEEDS:
                found += words(value, module)
            case _:
                pass
    needs = ", ".join(word for word in found if word != UNREAD)
    if UNREAD in found:
        needs = f"{needs} and more" if needs else f"see `privbench show {name}`"
    return Entry(shelf, name, summary, needs)


def _main_class(module: ast.Module) -> ast.ClassDef:
    """Return the one public class with a base; contract tests hold each file to that."""
    return [one for one in module.body if isinstance(one, ast.ClassDef) and one.bases][-1]
