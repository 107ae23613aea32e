"""Components and how they are found: the file name is the name."""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from inspect import isabstract
from typing import Any, ClassVar, TypeVar, dataclass_transform

from pydantic import ConfigDict, TypeAdapter, ValidationError

from privbench.errors import BadSetting, UnknownName


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Component:
    """One attack, defense, metric or data set; its annotated fields are its settings."""

    shelf: ClassVar[str]
    """The folder that holds components of this kind."""
    paper: ClassVar[str] = ""
    """Where the method was published, e.g. "arXiv:2003.14053"."""
    version: ClassVar[int] = 1
    """Raise it when results change: old records then no longer count."""
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make every component a frozen, keyword-only dataclass."""
        super().__init_subclass__(**kwargs)
        dataclass(frozen=True, kw_only=True)(cls)

    @classmethod
    def setting_names(cls) -> list[str]:
        """Return names of the fields that a user may set."""
        return [field.name for field in fields(cls)]  # type: ignore[arg-type]

    def settings(self) -> dict[str, Any]:
        """Return all settings, defaults included."""
        return {name: getattr(self, name) for name in self.setting_names()}

    def changed(self) -> dict[str, Any]:
        """Return the settings that differ from their default."""
        default = {field.name: field.default for field in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in self.settings().items() if value != default[name]}


@dataclass(frozen=True)
class Part:
    """A component or preset as it was run."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    name: str
    label: str
    """The name, and the settings that differ from their defaults: gradinv(steps=500)."""
    version: int
    settings: Mapping[str, Any]
    """All settings, defaults included."""


def label(name: str, changed: Mapping[str, Any]) -> str:
    """Return the name as a table shows it.

    >>> label("gradinv", {"steps": 500})
    'gradinv(steps=500)'
    """
    inside = ", ".join(f"{key}={value}" for key, value in changed.items())
    return f"{name}({inside})" if inside else name


T = TypeVar("T", bound=Component)


def names(shelf: str) -> list[str]:
    """Names of the components on a shelf, without importing them."""
    package = import_module(f"privbench.{shelf}")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_")


def find(base: type[T], name: str) -> type[T]:
    """Import the one component that the file of that name defines."""
    if name not in (known := names(base.shelf)):
        raise UnknownName(base.__name__.lower(), name, known)
    module = import_module(f"privbench.{base.shelf}.{name}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, base)
        and not isabstract(value)
        and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__name__} must define one {base.__name__}, not {len(found)}.")
    return found[0]


def make(base: type[T], name: str, settings: Mapping[str, object]) -> T:
    """Build a component; unknown settings and values of a wrong type are the user's errors."""
    kind = find(base, name)
    UnknownName.refuse(f"setting of {name}", settings, kind.setting_names())
    try:
        return TypeAdapter(kind).validate_python(dict(settings))
    except ValidationError as error:
        raise BadSetting(complaint(name, error)) from None


def complaint(what: str, error: ValidationError) -> str:
    """One sentence from pydantic's first objection."""
    first = error.errors()[0]
    if first["type"] == "value_error":
        return f"{what}: {first['msg'].removeprefix('Value error, ')}"
    where = ".".join(str(part) for part in first["loc"]) or "value"
    reason = first["msg"].rstrip(".")
    return f"{what}: '{where}' cannot be {first['input']!r}: {reason[0].lower()}{reason[1:]}."
