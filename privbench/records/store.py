"""One atomic JSON per case; of an attack, its pictures and lossless answers beside it."""

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from privbench.records.asked import Asked, Register, shown
from privbench.records.case import Case, Record
from privbench.records.files import write
from privbench.records.sealed import SealedCase, SealedRecord

C = TypeVar("C", bound=SealedCase)
R = TypeVar("R", bound=SealedRecord[Any])


class RecordStore(Generic[C, R]):
    """Records of one kind under a results folder."""

    PLACE: ClassVar[str]
    """Name of the folder that holds them."""
    RECORD: ClassVar[type[SealedRecord[Any]]]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked = Register(folder / "asked")

    def path(self, case: C, suffix: str = ".json") -> Path:
        """Place of a case's record, or of what lies beside it."""
        key = case.key
        return self.folder / f"{self.PLACE}/{key[:2]}/{key}{suffix}"

    def check_writable(self) -> None:
        """Fail now rather than after the first case (Unwritable)."""
        probe = self.folder / self.PLACE / ".writable"
        write(probe, b"")
        probe.unlink(missing_ok=True)

    def get(self, case: C) -> R | None:
        """Return the record of a case, if there is a whole one."""
        return self._read(self.path(case), case)

    def known(self, cases: Iterable[C]) -> dict[str, R | None]:
        """Return by key what `get` returns of each case."""
        with _uncollected():
            return {case.key: self.get(case) for case in cases}

    def put(self, record: R) -> None:
        """Replace a record atomically; raises Unwritable."""
        write(self.path(record.case), record.to_json().encode())

    def survey(self) -> tuple[list[R], list[Path]]:
        """Return all whole records, and the files that are torn, foreign or edited.

        The order depends on their content alone.
        """
        with _uncollected():
            read = {path: self._read(path) for path in self._files()}
        whole = [record for record in read.values() if record is not None]
        return whole, [path for path, record in read.items() if record is None]

    def records(self) -> Iterator[R]:
        """All whole records, in an order that depends on their content alone.

        One whose data were asked for under several names comes once under each.
        """
        yield from self.shown(self.survey()[0])

    def shown(self, records: Iterable[R]) -> list[R]:
        """Return records under the names by which their data were asked for."""
        return shown(records, self.asked.read())

    def ask(self, asked: Mapping[str, Asked], there: Mapping[str, R | None]) -> None:
        """Keep under which name the data of each key were asked for; raises Unwritable.

        Not kept is what the records that are there, by key, say themselves or others will say.
        """
        known, places, earlier = self.asked.read(), {}, {}
        for key, one in asked.items():
            old, names = there.get(key), known.get(key, ())
            plain = not one.data and (old is None or old.case.dataset.label == one.name)
            told = plain and not one.suite and not any(other.suite for other in names)
            if not told and one not in names:
                places[key] = one
            if one.suite and old is not None and not names:  # nobody's suite asked for it before
                earlier[key] = Asked(old.case.dataset.label)
        self.asked.add(places)
        self.asked.add(earlier)

    def broken(self) -> list[Path]:
        """Files that ought to be records but are torn, foreign or edited."""
        return self.survey()[1]

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self.PLACE}/*/*.json"))

    def _read(self, path: Path, case: C | None = None) -> R | None:
        """Read a record; None if there is none, or the file is not what its name says."""
        try:
            record = self.RECORD.from_json(path.read_bytes(), case)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return record if record.case.key == path.stem else None  # type: ignore[return-value]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep what is read from being searched for garbage again and again: a third of the time.

    What was read counts as old at once; else the first search would go through all of it.
    """
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on and not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()
        if on:
            gc.enable()


class Store(RecordStore[Case, Record]):
    """The records of attacks under a results folder."""

    PLACE: ClassVar[str] = "cases"
    RECORD: ClassVar[type[SealedRecord[Any]]] = Record

    def put(
        self, record: Record, picture: bytes | None = None, answers: bytes | None = None
    ) -> None:
        """Write what lies beside a record, then the record: it is never without its picture."""
        if picture is not None:
            write(self.path(record.case, ".png"), picture)
        if answers is not None:
            write(self.path(record.case, ".npz"), answers)
        write(self.path(record.case), record.to_json().encode())
