"""A component's settings: default, allowed values, and the author's note."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo

from privbench.component import Component

BOUNDS = (("ge", "from {}"), ("gt", "above {}"), ("le", "to {}"), ("lt", "below {}"))


@dataclass(frozen=True)
class Setting:
    """One field of a component, in words."""

    name: str
    default: str
    values: str
    note: str


def settings(kind: type[Component]) -> list[Setting]:
    """Return the settings of an imported component, inherited ones first."""
    hints = get_type_hints(kind, include_extras=True)
    notes = dict(_notes(kind))
    return [
        Setting(
            field.name,
            "required" if field.default is MISSING else plain(field.default),
            _values(hints[field.name]),
            notes.get(field.name, ""),
        )
        for field in fields(kind)  # type: ignore[arg-type]
    ]


def base(shelf: str) -> type[Component]:
    """Return the class that all components on a shelf have as a base."""
    from privbench.attack import Attack
    from privbench.dataset import Dataset
    from privbench.defense import Defense
    from privbench.evaluation import Evaluation
    from privbench.metric import Metric

    kinds = (Attack, Dataset, Defense, Evaluation, Metric)
    return {kind.shelf: kind for kind in kinds}[shelf]


def plain(value: object) -> str:
    """Return a value as a user would type it; a dash for nothing."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "-" if value is None else str(value)


def _notes(kind: type[Component]) -> Iterator[tuple[str, str]]:
    """Yield what stands under each field in the source, of a base before its subclass."""
    for one in reversed(kind.__mro__):
        if not one.__module__.startswith("privbench."):
            continue
        [tree] = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        assert isinstance(tree, ast.ClassDef)
        for node, following in pairwise(tree.body):
            match node, following:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    yield name, " ".join(text.split())
                case _:
                    pass


def _values(hint: Any) -> str:
    """Say in words what a type allows: `whole number, from 1`."""
    if get_origin(hint) is Annotated:
        inner, *rest = get_args(hint)
        limits = [text for one in rest if (text := _limits(one))]
        return ", ".join([_values(inner), *limits])
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    if get_origin(hint) in (tuple, list, frozenset):
        inner = [one for one in get_args(hint) if one is not Ellipsis]
        return f"list of {' and '.join(dict.fromkeys(map(_values, inner)))}"
    if inner := [one for one in get_args(hint) if one is not type(None)]:
        return " or ".join(map(_values, inner))
    words = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    return words.get(hint, getattr(hint, "__name__", str(hint)).lower())


def _limits(metadata: object) -> str:
    found = metadata.metadata if isinstance(metadata, FieldInfo) else [metadata]
    parts = [
        text.format(getattr(one, key))
        for one in found
        for key, text in BOUNDS
        if getattr(one, key, None) is not None
    ]
    return " ".join(parts)
