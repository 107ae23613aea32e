"""Under which names data were asked for: content makes a record, its name is the user's."""

import hashlib
import json
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from privbench.records.files import write
from privbench.records.sealed import SealedRecord, seal, unseal

DIGITS = 8
"""Of a digest, where two sets of pictures bear one name."""

MARK = re.compile(rf" \[[0-9a-f]{{{DIGITS}}}\]$")

R = TypeVar("R", bound=SealedRecord[Any])


@dataclass(frozen=True, order=True)
class Asked:
    """A set of pictures as somebody asked for it."""

    name: str
    """As tables show it: the data set, its folder and the settings that were changed."""
    data: str = ""
    """Digest of all pictures that belong together; empty for what comes along."""
    suite: str = ""
    """Name and version of the suite that asked, whose rows stand by themselves."""


class Register:
    """What was asked for, a file for each request beside the records, which never change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, asked: Mapping[str, Asked]) -> None:
        """Keep under which name each key was asked for; raises Unwritable."""
        if not asked:
            return
        content = {
            key: [one.name, one.data, *([one.suite] if one.suite else [])]
            for key, one in sorted(asked.items())
        }
        text = json.dumps(seal({"asked": content}), sort_keys=True)
        path = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
        if not path.exists():
            write(path, text.encode())

    def read(self) -> dict[str, set[Asked]]:
        """Return names by key; what is torn or edited does not count."""
        found: dict[str, set[Asked]] = {}
        for path in self.files():
            for key, one in requests(path) or ():
                found.setdefault(key, set()).add(one)
        return found

    def files(self) -> list[Path]:
        """Return the files of all requests."""
        return sorted(self.folder.glob("*.json"))


def requests(path: Path) -> list[tuple[str, Asked]] | None:
    """Return keys and what they were asked for as; None of a file that is torn or edited."""
    try:
        content = unseal(path.read_text(encoding="utf-8"))["asked"]
        return [(str(key), Asked(*map(str, one))) for key, one in content.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def shown(records: Iterable[R], asked: Mapping[str, set[Asked]]) -> list[R]:
    """Return each record under every name that its data were asked for by, own name included.

    One that suites alone asked for is shown in them alone.
    """
    found = []
    for record in records:
        own = record.case.dataset.label
        if not (names := set(asked.get(record.case.key, ()))):
            found.append(named(record, Asked(own)))
            continue
        if (free := {one.name for one in names if not one.suite}) and own not in free:
            names.add(Asked(own))
        found += [named(record, one) for one in sorted(names)]
    return found


def named(record: R, asked: Asked) -> R:
    """Return a record under another name of its data; itself where that is its name."""
    if Asked(record.case.dataset.label, record.data, record.suite) == asked:
        return record
    dataset = replace(record.case.dataset, label=asked.name)
    case = replace(record.case, dataset=dataset)
    suite = {"suite": asked.suite} if asked.suite != record.suite else {}
    return replace(record, case=case, data=asked.data, **suite)  # type: ignore[type-var]


def whole(records: Iterable[R], row: Callable[[R], Hashable]) -> list[R]:
    """Leave out sets of records all of which are in another set, asked for by the same name.

    A data set that grew was asked for twice, and the later table says all that the earlier said.
    """
    found = list(records)
    groups: dict[Hashable, dict[str, set[str]]] = {}
    for record in found:
        place = (row(record), record.case.dataset.label)
        groups.setdefault(place, {}).setdefault(record.data, set()).add(record.case.key)
    kept = {
        (place, data)
        for place, sets in groups.items()
        for data, keys in sets.items()
        if not any(
            keys < others or (keys == others and data < other)
            for other, others in sets.items()
            if other != data
        )
    }
    return [one for one in found if ((row(one), one.case.dataset.label), one.data) in kept]


def apart(
    records: Iterable[R], identity: Callable[[R], str], within: Callable[[R], Hashable]
) -> list[R]:
    """Return records whose data sets have different names wherever their data differ.

    Only a name that stands for several sets is lengthened, by some digits of a digest; what comes
    along, of no identity, keeps its own. Names are compared among records for which `within`
    gives the same answer.
    """
    found = list(records)
    known: dict[Hashable, set[str]] = {}
    for record in found:
        known.setdefault((record.case.dataset.label, within(record)), set()).add(identity(record))
    marked = []
    for record in found:
        label, own = record.case.dataset.label, identity(record)
        if own and len(known[label, within(record)]) > 1:
            digits = hashlib.sha256(own.encode()).hexdigest()[:DIGITS]
            record = named(record, Asked(f"{label} [{digits}]", record.data, record.suite))
        marked.append(record)
    return marked


def of_one_data_set(records: Iterable[R], place: Callable[[R], Hashable]) -> list[R]:
    """Return records whose data sets' names say which data they are of, for any aggregate.

    `place` is all that decides which pictures a case is of but their content: where two records
    of one place differ in that, neither shares a name with any other.
    """
    found = list(records)
    known: dict[Hashable, set[str]] = {}
    for record in found:
        at = (record.case.dataset.label, record.data, place(record))
        known.setdefault(at, set()).add(record.case.images_sha256)

    def identity(record: R) -> str:
        at = (record.case.dataset.label, record.data, place(record))
        several = len(known[at]) > 1
        return f"{record.data} {record.case.images_sha256}" if several else record.data

    return apart(found, identity, lambda _: None)


def plain_name(name: str) -> str:
    """Return the name that the user gave, without the digits that tell it from its like."""
    return MARK.sub("", name)
