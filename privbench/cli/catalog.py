"""What is on the shelves, read from the files without importing them."""

import ast
from dataclasses import dataclass

from privbench.component import names
from privbench.declared import HOME, UNREAD, attribute, attributes, main_class, source, words
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
    module = f"{HOME}{shelf}.{name}"
    kind = main_class(source(module))
    summary = (ast.get_docstring(kind) or "").partition("\n")[0]
    said = attributes(kind)
    found = [word for key in said if key in NEEDS for word in words(said[key], module)]
    needs = ", ".join(word for word in found if word != UNREAD)
    if UNREAD in found:
        needs = f"{needs} and more" if needs else f"see `privbench show {name}`"
    base = kind.bases[0]
    family = base.id if isinstance(base, ast.Name) and base.id not in SHELF_BASES else ""
    paper = attribute(shelf, name, "paper")
    published = str(paper.value) if isinstance(paper, ast.Constant) else ""
    return Entry(shelf, name, summary, needs, published, family)
