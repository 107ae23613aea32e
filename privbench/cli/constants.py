"""Words behind a class attribute, read from source code that is not imported."""

import ast
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

UNREAD = "?"
"""Stands for what only running the code could tell."""
HOME = "privbench."


def words(node: ast.expr, module: str) -> list[str]:
    """Return what an expression names, in its own order; UNREAD where it is computed.

    Understood are strings, names of constants (`ViT.POSITIONS`, `QKV`), sets, lists and tuples
    of these, `frozenset(...)` and `|`. A constant is followed into the module it comes from.
    """
    match node:
        case ast.Constant(value=str(text)):
            return [text.removeprefix("backbone.")]
        case ast.Attribute(attr=name):
            return [_plain(name)]
        case ast.Set(elts=parts) | ast.List(elts=parts) | ast.Tuple(elts=parts):
            return _once(word for part in parts for word in words(part, module))
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _once([*words(left, module), *words(right, module)])
        case ast.Call(func=ast.Name(id="frozenset"), args=parts):
            return _once(word for part in parts for word in words(part, module))
        case ast.Name(id=name):
            return _constant(name, module)
        case _:
            return [UNREAD]


def source(module: str) -> ast.Module:
    """Parse a module of privbench; raises ModuleNotFoundError."""
    spec = find_spec(module)  # imports packages on the way, which are empty; not the module
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def _constant(name: str, module: str) -> list[str]:
    """Follow a name: one string goes by the constant's name, a collection by what is in it."""
    for node in source(module).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                is_text = isinstance(value, ast.Constant)
                return [_plain(name)] if is_text else words(value, module)
            case ast.ImportFrom(module=str(origin), names=aliases) if origin.startswith(
                "privbench."
            ):
                for alias in aliases:
                    if (alias.asname or alias.name) == name:
                        return _constant(alias.name, origin)
            case _:
                pass
    return [UNREAD]


def _plain(name: str) -> str:
    return name.replace("_", " ").lower()


def _once(found: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(found))
