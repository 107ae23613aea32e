"""UtilityCase and UtilityRecord: one evaluation of one victim, and what came of it."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from privbench.component import Part
from privbench.records.case import SCHEMA, finite, seal, unseal
from privbench.records.store import write

DIGITS = 6
TESTS = {"corruption", "pictures", "side"}
"""Keys of a condition that make a pass one of robustness, whose figures are no mere means."""


@dataclass(frozen=True)
class UtilityCase:
    """One pass of one evaluation over one set of pictures."""

    model: Part
    control: str | None
    """Label of the undefended victim."""
    weights: str
    weights_sha256: str
    evaluation: Part
    condition: Mapping[str, Any]
    dataset: Part
    n: int
    images_sha256: str
    """Of all pixels and labels."""
    seed: int

    @property
    def tests_robustness(self) -> bool:
        """Whether it belongs in the table of robustness rather than in that of accuracy."""
        return bool(TESTS & self.condition.keys())

    @cached_property
    def key(self) -> str:
        """Content hash of all that decides the answer; labels decide nothing."""
        content: dict[str, Any] = asdict(self) | {"schema": SCHEMA}
        del content["control"]
        for part in ("model", "evaluation", "dataset"):
            del content[part]["label"]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class UtilityRecord:
    """Numbers for every picture, by column of the table; None where one does not count."""

    case: UtilityCase
    values: Mapping[str, list[float | None]]
    seconds: float
    environment: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return text that `from_json` reads, each number to six significant digits."""
        content = finite({"key": self.case.key} | asdict(self))
        content["values"] = {
            name: [None if v is None else float(f"{v:.{DIGITS}g}") for v in values]
            for name, values in content["values"].items()
        }
        return json.dumps(seal(content), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "UtilityRecord":
        """Read what `to_json` wrote; anything else raises ValueError, KeyError or TypeError."""
        content = unseal(text)
        key, case = content.pop("key"), content.pop("case")
        for name in ("model", "evaluation", "dataset"):
            case[name] = Part(**case[name])
        content["warnings"] = tuple(content.get("warnings", ()))
        record = cls(case=UtilityCase(**case), **content)
        if record.case.key != key:
            raise ValueError("a record whose key does not fit its content")
        return record


class UtilityStore:
    """The utility records under a results folder, one atomic JSON file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, case: UtilityCase) -> Path:
        """Place of a record."""
        return self.folder / "utility" / case.key[:2] / f"{case.key}.json"

    def get(self, case: UtilityCase) -> UtilityRecord | None:
        """Return the record of a case, if there is a whole one."""
        return _read(self.path(case))

    def put(self, record: UtilityRecord) -> None:
        """Replace a record atomically; raises Unwritable."""
        write(self.path(record.case), record.to_json().encode())

    def records(self) -> Iterator[UtilityRecord]:
        """All whole records, in an order that depends on their content alone."""
        for path in sorted(self.folder.glob("utility/*/*.json")):
            if (record := _read(path)) is not None:
                yield record


def _read(path: Path) -> UtilityRecord | None:
    try:
        record = UtilityRecord.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if record.case.key == path.stem else None
