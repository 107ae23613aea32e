"""UtilityCase and UtilityRecord: one evaluation of one victim, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from privbench.component import Part
from privbench.kind import Kind, declared
from privbench.records.sealed import SealedCase, SealedRecord
from privbench.records.store import RecordStore

DIGITS = 6
EARLIER = {
    **dict.fromkeys(("top*", "shuffled_*", "agreement*", "right", "wrong"), Kind.SHARE),
    "*": Kind.MEAN,
}
"""Kinds of the columns of records that do not say any."""
TESTS = {"corruption", "pictures", "side"}
"""Keys of a condition that make a pass one of robustness, whose figures are no mere means."""


@dataclass(frozen=True)
class UtilityCase(SealedCase):
    """One pass of one evaluation over one set of pictures."""

    PARTS: ClassVar[tuple[str, ...]] = ("evaluation", "model", "dataset")
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


@dataclass(frozen=True)
class UtilityRecord(SealedRecord[UtilityCase]):
    """Numbers for every picture, by column of the table; None where one does not count."""

    CASE: ClassVar[type[SealedCase]] = UtilityCase
    case: UtilityCase
    values: Mapping[str, list[float | None]]
    seconds: float
    environment: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)
    """What each column is, as a Kind; records of an earlier time do not say."""
    data: str = ""

    def kind(self, column: str) -> Kind:
        """Return what a column holds."""
        return Kind(self.kinds.get(column) or declared(EARLIER, column) or Kind.MEAN)

    def content(self) -> dict[str, Any]:
        """Return what JSON can hold of the record, each number to six significant digits."""
        content = super().content()
        content["values"] = {
            name: [None if v is None else float(f"{v:.{DIGITS}g}") for v in values]
            for name, values in content["values"].items()
        }
        return content

    def check(self) -> None:
        """Raise where a column has not one value for each picture."""
        if any(len(values) != self.case.n for values in self.values.values()):
            raise ValueError("values of more or fewer pictures than there are")


class UtilityStore(RecordStore[UtilityCase, UtilityRecord]):
    """The utility records under a results folder."""

    PLACE: ClassVar[str] = "utility"
    RECORD: ClassVar[type[SealedRecord[Any]]] = UtilityRecord
