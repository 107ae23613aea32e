"""What all records share: a case with a key, sealed JSON, and which record is the newest."""

import hashlib
import json
from abc import ABC
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import asdict, fields
from functools import cache, cached_property
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import ConfigDict, TypeAdapter

from privbench.component import Part

SCHEMA = 1
HEADS = {name: f'\n "{name}": '.encode() for name in ("key", "schema", "sha256")}
"""How the line of an outermost field begins that is no part of a record's content."""
MOST_KEPT = 10_000
"""Texts of settings that are remembered."""
_TEXTS: dict[tuple[Any, ...], str] = {}
STRICT = ConfigDict(extra="forbid")
"""A field that this version does not know makes a record another one."""

Q = TypeVar("Q", bound="SealedCase")
A = TypeVar("A", bound="SealedRecord[Any]")


class SealedCase(ABC):
    """What was asked; a subclass is a frozen dataclass whose fields decide the answer."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    PARTS: ClassVar[tuple[str, ...]]
    """Fields that hold a component or a tuple of components, the one under test first."""
    OPTIONAL: ClassVar[tuple[str, ...]] = ()
    """Fields that count only where they hold something, so that older keys stay as they are."""

    @cached_property
    def key(self) -> str:
        """Content hash of all that decides the answer; labels decide nothing."""
        found = {name: _text(getattr(self, name)) for name in self._deciding()}
        found["schema"] = _text(SCHEMA)
        inside = ", ".join([f'"{name}": {found[name]}' for name in sorted(found)])
        return hashlib.sha256(f"{{{inside}}}".encode()).hexdigest()

    def _deciding(self) -> list[str]:
        unused = {name for name in self.OPTIONAL if not getattr(self, name)}
        return [name for name in _names(type(self)) if name != "control" and name not in unused]

    def parts(self) -> list[Part]:
        """Return the components that the case names, the one under test first."""
        found: list[Part] = []
        for name in self.PARTS:
            value = getattr(self, name)
            found += [value] if isinstance(value, Part) else value
        return found

    @property
    def age(self) -> tuple[tuple[int, int], ...]:
        """Versions and numbers of settings; the greater of two is the newer one.

        A component that has gained a setting is newer, too, though its old answers may stand.
        """
        return tuple((part.version, len(part.settings)) for part in self.parts())

    @classmethod
    def read(cls: type[Q], content: Mapping[str, Any]) -> Q:
        """Build a case from what a record's JSON holds; raises ValueError."""
        return _types(cls).validate_json(json.dumps(content), strict=True)


C = TypeVar("C", bound=SealedCase)
R = TypeVar("R", bound="SealedRecord[Any]")


class SealedRecord(Generic[C]):
    """What came of a case; a subclass is a frozen dataclass with a field `case`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    CASE: ClassVar[type[SealedCase]]
    INDENT: ClassVar[int | None] = None
    case: C
    data: str = ""
    """Digest of the pictures among which it was asked for; kept beside the record, not in it."""
    suite: str = ""
    """The suite that asked for it, with its version; kept beside the record, too."""

    def content(self) -> dict[str, Any]:
        """Return what JSON can hold of the record; NaN and infinity are None."""
        content = {"key": self.case.key} | asdict(self)  # type: ignore[call-overload]
        for beside in ("data", "suite"):
            content.pop(beside, None)
        return finite(content)

    def to_json(self) -> str:
        """Return text that `from_json` reads."""
        sealed = seal(self.content())
        return json.dumps(sealed, indent=self.INDENT, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls: type[A], text: str | bytes, case: SealedCase | None = None) -> A:
        """Read what `to_json` wrote; anything else raises ValueError, KeyError or TypeError.

        A seal proves no types: somebody's own program, or another version of this one, sealed it.
        A case that is equal to the record's spares its key, which is the same.
        """
        key, plain = _opened(text.encode() if isinstance(text, str) else text)
        record = _types(cls).validate_json(plain, strict=True)
        if case is not None and record.case == case:
            vars(record.case)["key"] = case.key  # where a cached property keeps its value
        if record.case.key != key:
            raise ValueError("a record whose key does not fit its content")
        record.check()
        return record

    def check(self) -> None:
        """Raise ValueError, KeyError or TypeError on what no table could be made of."""


@cache
def _types(kind: type[Any]) -> TypeAdapter:
    return TypeAdapter(kind)


@cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(one.name for one in fields(kind))


def newest(records: Iterable[R]) -> list[R]:
    """Keep the records of the newest component versions; older ones no longer count."""
    found = [(record.case.age, record) for record in records]
    latest = max((age for age, _ in found), default=None)
    return [record for age, record in found if age == latest]


def newest_of_each(records: Iterable[R], question: Callable[[R], Hashable]) -> list[R]:
    """Keep the newest records among those that answer the same question, in their order."""
    groups: dict[Hashable, list[R]] = {}
    found = list(records)
    for record in found:
        groups.setdefault(question(record), []).append(record)
    kept = {id(record) for group in groups.values() for record in newest(group)}
    return [record for record in found if id(record) in kept]


def _text(value: Any) -> str:
    """Return a field as JSON, as it enters the key: a component without its label."""
    if type(value) is str:
        return _quoted(value)
    if type(value) is int:
        return str(value)
    if isinstance(value, Part):
        return _mapping(value.settings, value.name, value.version)
    if isinstance(value, tuple) and value and isinstance(value[0], Part):
        return f"[{', '.join([_text(one) for one in value])}]"
    if isinstance(value, Mapping):
        return _mapping(value)
    if type(value) is tuple and all(type(one) is int for one in value):
        return f"[{', '.join(map(str, value))}]"
    return json.dumps(value, sort_keys=True, default=str)


def _mapping(settings: Mapping[str, Any], *named: Any) -> str:
    """Return settings, or a component of this name and version, as JSON.

    The cases of a table have few components, each of them thousands of times.
    """
    memo = (repr(settings), *named)
    if (known := _TEXTS.get(memo)) is not None:
        return known
    text = json.dumps(settings, sort_keys=True, default=str)
    if named:
        name, version = map(json.dumps, named)
        text = f'{{"name": {name}, "settings": {text}, "version": {version}}}'
    if len(_TEXTS) >= MOST_KEPT:
        _TEXTS.clear()
    _TEXTS[memo] = text
    return text


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's content with its schema and the sha256 of it all."""
    sealed = {"schema": SCHEMA, **content}
    return sealed | {"sha256": _digest(sealed)}


def unseal(text: str | bytes) -> dict[str, Any]:
    """Return what was sealed; raises ValueError, KeyError or TypeError on anything else."""
    content = json.loads(text)
    if not isinstance(content, dict) or content["schema"] != SCHEMA:
        raise ValueError("a record of another schema")
    if content.pop("sha256") != _digest(content):
        raise ValueError("a record that somebody edited")
    del content["schema"]
    return content


def _opened(text: bytes) -> tuple[str, bytes]:
    """Return a record's key, and its JSON without key, schema and seal; raises as `unseal`.

    An indented record is opened line by line, without writing its content anew: no string in JSON
    holds a line feed as it is, so all of them are indentation.
    """
    sha256, sealed = _without(text, "sha256")
    if sha256 == f'"{_digest_of_lines(sealed)}"'.encode():
        key, content = _without(sealed, "key")
        schema, content = _without(content, "schema")
        if key and schema == b"%d" % SCHEMA:
            return key.strip(b'"').decode(), content
    found = unseal(text)
    return found.pop("key"), json.dumps(found).encode()


def _without(text: bytes, name: str) -> tuple[bytes, bytes]:
    """Return what stands in the line of an outermost field, and the text without that line."""
    head = HEADS[name]
    start = text.rfind(head)  # all of them are nearer to the end
    end = text.find(b"\n", start + 1)
    if start < 0 or text[end - 1 : end] != b",":
        return b"", text
    return text[start + len(head) : end - 1], text[:start] + text[end:]


def _digest_of_lines(text: bytes) -> str:
    lines = text.replace(b",\n", b", \n").split(b"\n")  # faster than a pattern
    return hashlib.sha256(b"".join(map(bytes.lstrip, lines))).hexdigest()


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def finite(value: Any) -> Any:
    """Return what JSON can hold; NaN and infinity become None."""
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, Mapping):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [
            finite(one) for one in (sorted(value) if isinstance(value, set | frozenset) else value)
        ]
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)
