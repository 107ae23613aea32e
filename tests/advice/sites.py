"""Every text in the source that tells a user what to type."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("attacks", "defenses", "privbench")
LINKS = tuple(ROOT / "privbench" / shelf for shelf in ("attacks", "configs", "defenses"))
ADVICE = re.compile(
    r"`[^`]+`|(?<![\w-])--[a-z][\w-]*|timm:[a-z]\w+|docs/\w+"
    r"|\b(?:attack|dataset|defense|eval|model|threat|train)\.[a-z]\w+"
)
"""A command, an option, a model of timm's, a page or a setting."""
PRINTERS = ("claims.py", "reference.py")
"""They write pages, whose commands tests of the pages run."""
FEWEST = 3
"""Words of an advice; less is a name, or a part of a command that is put together."""


@dataclass(frozen=True)
class Site:
    """One text, its gaps written as {}."""

    file: str
    text: str


def sites() -> list[Site]:
    """Return all texts with advice, in the order of the source; docstrings and help left out."""
    found: dict[Site, None] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if any(path.is_relative_to(link) for link in LINKS) or path.name in PRINTERS:
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for text in texts(tree):
                if ADVICE.search(text) and len(text.split()) >= FEWEST:
                    found[Site(str(path.relative_to(ROOT)), text)] = None
    return list(found)


def texts(tree: ast.AST) -> Iterator[str]:
    """Yield every literal text, the outermost one only."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue  # a docstring
        if isinstance(child, ast.keyword) and child.arg in ("help", "metavar"):
            continue
        if isinstance(child, ast.Constant | ast.JoinedStr):
            if (text := literal(child)) is not None:
                yield text
        else:
            yield from texts(child)


def literal(node: ast.AST) -> str | None:
    """Return a text with {} for what is filled in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    assert isinstance(node, ast.JoinedStr)
    return "".join(str(one.value) if isinstance(one, ast.Constant) else "{}" for one in node.values)
