"""One atomic JSON per case, its images beside it."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from privbench.errors import Unwritable
from privbench.records.case import Case, Record


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


class Store:
    """The records under a results folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, case: Case, suffix: str = ".json") -> Path:
        """Place of a case's record, or of the picture beside it."""
        key = case.key
        return self.folder / "cases" / key[:2] / f"{key}{suffix}"

    def check_writable(self) -> None:
        """Fail now rather than after the first case (Unwritable)."""
        probe = self.folder / "cases" / ".writable"
        write(probe, b"")
        probe.unlink(missing_ok=True)

    def get(self, case: Case) -> Record | None:
        """Return the record of a case, if there is a whole one."""
        return read(self.path(case))

    def put(self, record: Record, picture: bytes | None = None) -> None:
        """Write the picture, then the record: a record is never without its picture."""
        if picture is not None:
            write(self.path(record.case, ".png"), picture)
        write(self.path(record.case), record.to_json().encode())

    def records(self) -> Iterator[Record]:
        """All whole records, in an order that depends on their content alone."""
        for path in self._files():
            if (record := read(path)) is not None:
                yield record

    def broken(self) -> list[Path]:
        """Files that ought to be records but are torn, foreign or edited."""
        return [path for path in self._files() if read(path) is None]

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("cases/*/*.json"))


def read(path: Path) -> Record | None:
    """Read a record; None if there is none, or the file is not the one that its name says."""
    try:
        record = Record.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if record.case.key == path.stem else None
