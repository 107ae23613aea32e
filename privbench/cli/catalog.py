"""What is on the shelves, read from the files without importing them."""

import ast
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise

from privbench.component import names
from privbench.errors import UnknownName
from privbench.victims.preset import preset_names, read_preset

SHELVES = ("attacks", "defenses", "datasets", "metrics", "evals")
PRESETS = ("models", "suites")


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
    kind = _main_class(shelf, name)
    summary = (ast.get_docstring(kind) or "").partition("\n")[0]
    reads = {
        target.id: ast.unparse(node.value)
        for node in kind.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(target := node.target, ast.Name)
        and node.value
    }
    needs = [
        text.replace("ViT.", "").replace("Knowledge.", "").replace("_", " ").lower()
        for key in ("needs", "reads")
        if key in reads
        for text in reads[key].removeprefix("frozenset({").removesuffix("})").split(", ")
    ]
    return Entry(shelf, name, summary, ", ".join(needs))


def field_notes(shelf: str, name: str) -> dict[str, str]:
    """Return what stands under each setting in the file, by name."""
    body = _main_class(shelf, name).body
    notes = {}
    for node, following in pairwise(body):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            notes[node.target.id] = " ".join(str(following.value.value).split())
    return notes


def _main_class(shelf: str, name: str) -> ast.ClassDef:
    """Return the one public class with a base; contract tests hold each file to that."""
    text = (files(f"privbench.{shelf}") / f"{name}.py").read_text(encoding="utf-8")
    classes = [
        node for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.bases
    ]
    return classes[-1]
