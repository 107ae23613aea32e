"""What is on the shelves, read from the files without importing them."""

import ast
from dataclasses import dataclass

from privbench.cli.constants import HOME, UNREAD, source, words
from privbench.component import names
from privbench.errors import UnknownName
from privbench.victims.preset import preset_names, read_preset

SHELVES = ("attacks", "defenses", "datasets", "metrics", "evals")
PRESETS = ("models", "suites")
SHELF_BASES = ("Attack", "Dataset", "Defense", "Evaluation", "Metric")
NEEDS = ("needs", "roles")
"""Class attributes that say what a component cannot do without."""


@dataclass(frozen=True)
class Entry:
    """A component or preset: where it stands and what its author says of it."""

    shelf: str
    name: str
    summary: str
    needs: str = ""
    paper: str = ""
    """Where the method was published."""
    family: str = ""
    """Name of the class that it shares with others of its shelf; empty where it shares none."""


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
    tree = source(module)
    kind = _main_class(tree)
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
    base = kind.bases[0]
    family = base.id if isinstance(base, ast.Name) and base.id not in SHELF_BASES else ""
    return Entry(shelf, name, summary, needs, _paper(kind, tree), family)


def _paper(kind: ast.ClassDef, module: ast.Module) -> str:
    """Return what the class says of its source, or the class that it is made from."""
    for node in kind.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id="paper"), value=ast.Constant(value=str(text))):
                return text
            case _:
                pass
    bases = [base.id for base in kind.bases if isinstance(base, ast.Name)]
    for node in module.body:
        match node:
            case ast.ImportFrom(module=str(origin), names=aliases) if origin.startswith(HOME):
                wanted = {alias.name for alias in aliases if alias.name in bases}
                there = source(origin) if wanted else module
                for one in there.body if wanted else []:
                    if isinstance(one, ast.ClassDef) and one.name in wanted:
                        return _paper(one, there)
            case _:
                pass
    return ""


def _main_class(module: ast.Module) -> ast.ClassDef:
    """Return the one public class with a base; contract tests hold each file to that."""
    return [one for one in module.body if isinstance(one, ast.ClassDef) and one.bases][-1]
