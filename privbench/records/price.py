"""PriceCase and PriceRecord: one federated training under one defense, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from privbench.component import Part
from privbench.records.case import UNDEFENDED
from privbench.records.defended import DefendedCase
from privbench.records.sealed import SealedCase, SealedRecord
from privbench.records.store import RecordStore

RIGHT, WRONG = "1", "0"


@dataclass(frozen=True)
class PriceCase(DefendedCase):
    """One victim, one defense, one form of the protocol, one order of the pictures.

    Its digest of images is of all test pictures.
    """

    PARTS: ClassVar[tuple[str, ...]] = ("price", "model", "dataset", "defense")
    price: Part
    """The protocol, with all its numbers."""
    start_sha256: str
    """Of the weights that all defenses of a victim start from."""
    train_sha256: str
    """Of all pictures to train on, and their labels."""
    n: int
    """Test pictures that are asked about."""

    @property
    def undefended(self) -> bool:
        """Whether others are compared with it."""
        return self.defended == UNDEFENDED

    @property
    def pair(self) -> tuple[object, ...]:
        """What a case has in common with the undefended one that it is compared with."""
        return (
            (self.price.version, str(self.price.settings), self.model.label, self.weights),
            (self.start_sha256, self.train_sha256, self.images_sha256, self.n, self.seed),
        )


@dataclass(frozen=True)
class PriceRecord(SealedRecord[PriceCase]):
    """Answers to the test pictures before and after, and what a step took."""

    CASE: ClassVar[type[SealedCase]] = PriceCase
    case: PriceCase
    right: str
    """A digit for each test picture: 1 where the answer is right after the last step."""
    before: int
    """How many were right before the first step."""
    sent: float
    """Bytes that a client sends in a step, mean over the updates that were measured."""
    entries: int
    """Numbers in such an update."""
    seconds: float
    """Of a step of all clients, one after the other."""
    environment: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    data: str = ""

    @property
    def hits(self) -> list[int]:
        """1 for each test picture that was answered right, else 0."""
        return [int(one) for one in self.right]

    def check(self) -> None:
        """Raise where there is not an answer for each test picture."""
        if len(self.right) != self.case.n or set(self.right) - {RIGHT, WRONG}:
            raise ValueError("answers to more or fewer pictures than there are")
        if not 0 <= self.before <= self.case.n:
            raise ValueError("more right answers than pictures")


class PriceStore(RecordStore[PriceCase, PriceRecord]):
    """The records of prices under a results folder."""

    PLACE: ClassVar[str] = "prices"
    RECORD: ClassVar[type[SealedRecord[Any]]] = PriceRecord

    def put(self, record: PriceRecord) -> None:
        """Write a record in place of the checkpoint that lies beside it."""
        super().put(record)
        self.path(record.case, ".safetensors").unlink(missing_ok=True)
