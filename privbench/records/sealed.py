"""What all records share: a case with a key, sealed JSON, and which record is the newest."""

import hashlib
import json
import re
from abc import ABC
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import asdict, fields
from functools import cache, cached_property
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import TypeAdapter

from privbench.component import Part

SCHEMA = 1
SEAL = re.compile(r'\n "sha256": "[0-9a-f]{64}",')
COMMA = re.compile(r",\n *")
BREAK = re.compile(r"\n *")

Q = TypeVar("Q", bound="SealedCase")
A = TypeVar("A", bound="SealedRecord[Any]")


class SealedCase(ABC):
    """What was asked; a subclass is a frozen dataclass whose fields decide the answer."""

    PARTS: ClassVar[tuple[str, ...]]
    """Fields that hold a component or a tuple of components, the one under test first."""
    TUPLES: ClassVar[tuple[str, ...]] = ()
    """Other fields that JSON gives back as lists."""
    OPTIONAL: ClassVar[tuple[str, ...]] = ()
    """Fields that count only where they hold something, so that older keys stay as they are."""

    @cached_property
    def key(self) -> str:
        """Content hash of all that decides the answer; labels decide nothing."""
        content = {name: _plain(getattr(self, name)) for name in self._deciding()}
        text = json.dumps(content | {"schema": SCHEMA}, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _deciding(self) -> list[str]:
        names = [one.name for one in fields(self)]  # type: ignore[arg-type]
        unused = {name for name in self.OPTIONAL if not getattr(self, name)}
        return [name for name in names if name != "control" and name not in unused]

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
    def read(cls: type[Q], content: dict[str, Any]) -> Q:
        """Build a case from what a record's JSON holds; raises KeyError or TypeError."""
        for name in cls.PARTS:
            value = content[name]
            several = isinstance(value, list)
            content[name] = tuple(Part(**one) for one in value) if several else Part(**value)
        for name in cls.TUPLES:
            content[name] = tuple(content[name])
        return cls(**content)


C = TypeVar("C", bound=SealedCase)
R = TypeVar("R", bound="SealedRecord[Any]")


class SealedRecord(Generic[C]):
    """What came of a case; a subclass is a frozen dataclass with a field `case`."""

    CASE: ClassVar[type[SealedCase]]
    TUPLES: ClassVar[tuple[str, ...]] = ("warnings",)
    """Fields that JSON gives back as lists."""
    INDENT: ClassVar[int | None] = None
    case: C
    data: str = ""
    """Digest of the pictures among which it was asked for; kept beside the record, not in it."""

    def content(self) -> dict[str, Any]:
        """Return what JSON can hold of the record; NaN and infinity are None."""
        content = {"key": self.case.key} | asdict(self)  # type: ignore[call-overload]
        del content["data"]
        return finite(content)

    def to_json(self) -> str:
        """Return text that `from_json` reads."""
        sealed = seal(self.content())
        return json.dumps(sealed, indent=self.INDENT, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls: type[A], text: str) -> A:
        """Read what `to_json` wrote; anything else raises ValueError, KeyError or TypeError.

        A seal proves no types: somebody's own program, or another version of this one, sealed it.
        """
        content = unseal(text)
        _types(cls).validate_json(text, strict=True)
        key = content.pop("key")
        case = cls.CASE.read(content.pop("case"))
        for name in cls.TUPLES:
            if content.get(name) is not None:
                content[name] = tuple(content[name])
        record = cls(case=case, **content)  # type: ignore[call-arg]
        if case.key != key:
            raise ValueError("a record whose key does not fit its content")
        record.check()
        return record

    def check(self) -> None:
        """Raise ValueError, KeyError or TypeError on what no table could be made of."""


@cache
def _types(kind: type[Any]) -> TypeAdapter:
    return TypeAdapter(kind)


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


def _plain(value: Any) -> Any:
    """Return a field as it enters the key: a component without its label."""
    if isinstance(value, Part):
        return {"name": value.name, "version": value.version, "settings": value.settings}
    if isinstance(value, tuple) and value and isinstance(value[0], Part):
        return [_plain(one) for one in value]
    return value


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's content with its schema and the sha256 of it all."""
    sealed = {"schema": SCHEMA, **content}
    return sealed | {"sha256": _digest(sealed)}


def unseal(text: str) -> dict[str, Any]:
    """Return what was sealed; raises ValueError, KeyError or TypeError on anything else."""
    content = json.loads(text)
    if not isinstance(content, dict) or content["schema"] != SCHEMA:
        raise ValueError("a record of another schema")
    sha256 = content.pop("sha256")
    if sha256 != _digest_of_lines(text) and sha256 != _digest(content):
        raise ValueError("a record that somebody edited")
    del content["schema"]
    return content


def _digest_of_lines(text: str) -> str:
    """Return the digest of an indented record without writing its content anew: a third faster.

    No string in JSON holds a line feed as it is, so all of them are indentation.
    """
    plain = BREAK.sub("", COMMA.sub(", ", SEAL.sub("", text, count=1)))
    return hashlib.sha256(plain.encode()).hexdigest()


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
