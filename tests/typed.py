"""Checks of shapes and types as tests run, at a third of what they cost.

jaxtyping's import hook checks each argument twice, binds a signature at each call, and treats a
function inside another anew whenever that one is called: 45 % of the whole run. Here beartype
checks each function itself, dimensions are bound only where an annotation names some, and
functions inside others are left alone.
"""

import functools
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import beartype
from jaxtyping import AbstractArray

ORIGINAL = jaxtyping.jaxtyped


def jaxtyped(*, typechecker: Any) -> Callable[[Any], Any]:
    """Stand for jaxtyping's decorator of the same name, as its import hook calls it."""
    return lambda thing: (
        ORIGINAL(thing, typechecker=typechecker) if isinstance(thing, type) else _typed(thing)
    )


def _typed(thing: Any) -> Any:
    """Return a function, or what holds some, with its arguments and answer checked."""
    if isinstance(thing, (classmethod, staticmethod)):
        return type(thing)(_typed(thing.__func__))
    if isinstance(thing, property):
        return property(*(one and _typed(one) for one in (thing.fget, thing.fset, thing.fdel)))
    if "<locals>" in thing.__qualname__:
        return thing
    checked = beartype(thing)
    return _bound(checked) if any(map(_shaped, thing.__annotations__.values())) else checked


def _bound(checked: Callable[..., Any]) -> Callable[..., Any]:
    """Let each call name its dimensions anew."""

    @functools.wraps(checked)
    def call(*given: Any, **named: Any) -> Any:
        with ORIGINAL("context"):
            return checked(*given, **named)

    return call


def _shaped(hint: Any) -> bool:
    """Whether an annotation has an array's shape in it, or is text that may have."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return isinstance(hint, str) or any(map(_shaped, typing.get_args(hint)))


jaxtyping.jaxtyped = jaxtyped
