"""BoundCase and BoundRecord: the most that an update could tell of one picture."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log10, nan
from typing import Any, ClassVar

from privbench.component import Part
from privbench.records.defended import DefendedCase
from privbench.records.sealed import SealedCase, SealedRecord
from privbench.records.store import RecordStore

CAP = 100.0
"""Decibels, as PSNR's: a picture known so well is exact."""


@dataclass(frozen=True)
class BoundCase(DefendedCase):
    """One picture, one victim, one defense."""

    PARTS: ClassVar[tuple[str, ...]] = ("bound", "model", "dataset", "defense")
    bound: Part
    images: tuple[int, ...]


@dataclass(frozen=True)
class BoundRecord(SealedRecord[BoundCase]):
    """Expected squared errors of the best estimate, with the update and without it.

    And what holds for any network, where Gaussian noise is on a clipped gradient.
    """

    CASE: ClassVar[type[SealedCase]] = BoundCase
    case: BoundCase
    mse: float
    """Mean over pixels, in [0, 1]; without its share in directions that are not resolved."""
    blind: float
    """The same by the prior alone, for who sees no update."""
    seconds: float
    unknowns: int
    """Numbers of the picture."""
    entries: int
    """Numbers of the update that say something."""
    noise: float | None = None
    """Standard deviation over the norm; None where there is no such mechanism."""
    unaided: float | None = None
    """Mean squared error of an attack on any network that knows no prior."""
    informed: float | None = None
    """Least one of any attack on any network for pictures as the prior has them."""
    unresolved: int = 0
    """Directions of the picture of which arithmetic does not tell how well they are known."""
    environment: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    data: str = ""

    @property
    def decibels(self) -> float:
        """The ceiling, at most the cap; NaN where it is not resolved."""
        return nan if self.unresolved else decibels(self.mse)

    def content(self) -> dict[str, Any]:
        """Return what JSON can hold of the record, errors to nine significant digits."""
        return super().content() | self.errors(9)

    def errors(self, digits: int) -> dict[str, float | None]:
        """Return the squared errors to so many significant digits."""
        found = {name: getattr(self, name) for name in ("mse", "blind", "unaided", "informed")}
        return {n: None if v is None else float(f"{v:.{digits}g}") for n, v in found.items()}

    def check(self) -> None:
        """Raise where an error is none, of which no table could be made."""
        if not (0 <= self.mse < float("inf") and 0 < self.blind < float("inf")):
            raise ValueError("a squared error that is none")


def decibels(mse: float) -> float:
    """Return an error in decibels below the square of a whole pixel's range, at most the cap."""
    return min(CAP, -10 * log10(mse)) if mse > 0 else CAP


class BoundStore(RecordStore[BoundCase, BoundRecord]):
    """The records of bounds under a results folder."""

    PLACE: ClassVar[str] = "bounds"
    RECORD: ClassVar[type[SealedRecord[Any]]] = BoundRecord
