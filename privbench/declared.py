"""What a component's file says of its class, read from source code that is not imported."""

import ast
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

UNREAD = "?"
"""Stands for what only running the code could tell."""
HOME = "privbench."


def main_class(module: ast.Module) -> ast.ClassDef:
    """Return the one public class with a base; contract tests hold each file to that."""
    return [one for one in module.body if isinstance(one, ast.ClassDef) and one.bases][-1]


def attributes(kind: ast.ClassDef) -> dict[str, ast.expr]:
    """Return the annotated attributes of a class that have a value, without inherited ones."""
    found: dict[str, ast.expr] = {}
    for node in kind.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=key), value=ast.expr() as value):
                found[key] = value
            case _:
                pass
    return found


def attribute(shelf: str, name: str, key: str) -> ast.expr | None:
    """Return the value of a component's attribute, its own or that of a class it is made from."""
    module = source(f"{HOME}{shelf}.{name}")
    for kind in _line(main_class(module), module):
        if (value := attributes(kind).get(key)) is not None:
            return value
    return None


def _line(kind: ast.ClassDef, module: ast.Module) -> Iterator[ast.ClassDef]:
    """Yield a class and those that it is made from, in files of privbench."""
    yield kind
    bases = [base.id for base in kind.bases if isinstance(base, ast.Name)]
    for node in module.body:
        match node:
            case ast.ClassDef(name=name) if name in bases:
                yield from _line(node, module)
            case ast.ImportFrom(module=str(origin), names=aliases) if origin.startswith(HOME):
                wanted = {alias.name for alias in aliases if alias.name in bases}
                there = source(origin) if wanted else module
                for one in there.body if wanted else []:
                    if isinstance(one, ast.ClassDef) and one.name in wanted:
                        yield from _line(one, there)
            case _:
                pass


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
