"""Checks of shapes and types as tests run, at a third of what they cost.

jaxtyping's import hook checks each argument twice, binds a signature at each call, and treats a
function inside another anew whenever that one is called: 45 % of the whole run. Here each
function itself is checked, dimensions are bound only where an annotation names some, and
functions inside others and generators, which run within a later call, are left alone.
"""

import functools
import inspect
import typing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jaxtyping
from jaxtyping import AbstractArray

ORIGINAL = jaxtyping.jaxtyped


def jaxtyped(*, typechecker: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Stand for jaxtyping's decorator of the same name, as its import hook calls it."""
    return functools.partial(_typed, typechecker)


def _typed(typechecker: Callable[[Any], Any], thing: Any) -> Any:
    """Return a class, a function or what holds some, with arguments and answers checked."""
    typed = functools.partial(_typed, typechecker)
    if isinstance(thing, type):
        return ORIGINAL(thing, typechecker=typechecker)
    if isinstance(thing, (classmethod, staticmethod)):
        return type(thing)(typed(thing.__func__))
    if isinstance(thing, property):
        return property(*(one and typed(one) for one in (thing.fget, thing.fset, thing.fdel)))
    if "<locals>" in thing.__qualname__ or inspect.isgeneratorfunction(thing):
        return thing
    given = thing.__annotations__
    thing.__annotations__ = {name: _known(hint, thing) for name, hint in given.items()}
    checked = typechecker(thing)
    shaped = any(map(_shaped, thing.__annotations__.values()))
    thing.__annotations__ = checked.__annotations__ = given
    return _bound(checked) if shaped else checked


def _known(hint: Any, function: Any) -> Any:
    """Return an annotation without text; anything where a name is not there at run time."""
    try:
        alone = SimpleNamespace(__annotations__={"hint": hint})
        found = typing.get_type_hints(alone, function.__globals__, include_extras=True)
    except NameError:
        return Any
    return found["hint"]


def _bound(checked: Callable[..., Any]) -> Callable[..., Any]:
    """Let each call name its dimensions anew."""

    @functools.wraps(checked)
    def call(*given: Any, **named: Any) -> Any:
        with ORIGINAL("context"):
            return checked(*given, **named)

    return call


def _shaped(hint: Any) -> bool:
    """Whether an annotation has an array's shape in it."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(_shaped, typing.get_args(hint)))


jaxtyping.jaxtyped = jaxtyped
