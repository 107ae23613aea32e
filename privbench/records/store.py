"""One atomic JSON per case; of an attack, its pictures and lossless answers beside it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar
from uuid import uuid4

from privbench.errors import Unwritable
from privbench.records.case import Case, Record
from privbench.records.sealed import SealedCase, SealedRecord

C = TypeVar("C", bound=SealedCase)
R = TypeVar("R", bound=SealedRecord[Any])


def write(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old one or the new one, never half of it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{uuid4().hex}.part")
        try:
            with part.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Unwritable(
            f"Cannot write {path}: {error.strerror or error}. All earlier results are kept; "
            "make room or name another folder with --out, and run the same command again."
        ) from None


class RecordStore(Generic[C, R]):
    """Records of one kind under a results folder."""

    PLACE: ClassVar[str]
    """Name of the folder that holds them."""
    RECORD: ClassVar[type[SealedRecord[Any]]]

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, case: C, suffix: str = ".json") -> Path:
        """Place of a case's record, or of what lies beside it."""
        key = case.key
        return self.folder / self.PLACE / key[:2] / f"{key}{suffix}"

    def check_writable(self) -> None:
        """Fail now rather than after the first case (Unwritable)."""
        probe = self.folder / self.PLACE / ".writable"
        write(probe, b"")
        probe.unlink(missing_ok=True)

    def get(self, case: C) -> R | None:
        """Return the record of a case, if there is a whole one."""
        return self._read(self.path(case))

    def put(self, record: R) -> None:
        """Replace a record atomically; raises Unwritable."""
        write(self.path(record.case), record.to_json().encode())

    def survey(self) -> tuple[list[R], list[Path]]:
        """Return all whole records, and the files that are torn, foreign or edited.

        The order depends on their content alone.
        """
        read = {path: self._read(path) for path in self._files()}
        whole = [record for record in read.values() if record is not None]
        return whole, [path for path, record in read.items() if record is None]

    def records(self) -> Iterator[R]:
        """All whole records, in an order that depends on their content alone."""
        yield from self.survey()[0]

    def broken(self) -> list[Path]:
        """Files that ought to be records but are torn, foreign or edited."""
        return self.survey()[1]

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self.PLACE}/*/*.json"))

    def _read(self, path: Path) -> R | None:
        """Read a record; None if there is none, or the file is not what its name says."""
        try:
            record = self.RECORD.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return record if record.case.key == path.stem else None  # type: ignore[return-value]


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
