"""Several folders of records become one; answers and pictures come along."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from privbench.bounds.table import bound_tables
from privbench.errors import BadData, BadSetting
from privbench.price.table import price_tables
from privbench.records.answers import digest
from privbench.records.bound import BoundRecord, BoundStore
from privbench.records.case import Record
from privbench.records.price import PriceRecord, PriceStore
from privbench.records.sealed import SealedRecord
from privbench.records.store import RecordStore, Store, write
from privbench.records.utility import UtilityRecord, UtilityStore
from privbench.reports.leaderboard import leaderboard, write_table
from privbench.running.finish import write_tables
from privbench.submission.reading import why_none

KINDS: tuple[type[RecordStore[Any, Any]], ...] = (Store, UtilityStore, BoundStore, PriceStore)
DERIVED = {BoundStore: bound_tables, PriceStore: price_tables}
"""What makes tables of records that only join the leaderboard."""
DIGITS = 4
"""Of a squared error that machines agree in."""
KEY = 64
"""Letters of a record's name."""


@dataclass
class Merged:
    """What came of it."""

    taken: int = 0
    there: int = 0
    """Records that the folder held already."""
    again: int = 0
    """Cases that two folders ran, with one result and at different speeds: the first's stays."""
    bare: int = 0
    """Records whose stored answers were in none of the folders."""
    broken: dict[Path, str] = field(default_factory=dict)
    """Files that are no records and were left behind, and why."""


@dataclass
class _Place:
    """A record and the folders that hold it."""

    record: SealedRecord[Any]
    stores: list[RecordStore[Any, Any]]

    def path(self, suffix: str = ".json") -> Path:
        """Place of its file, or of what lies beside it, in the first folder."""
        return self.stores[0].path(self.record.case, suffix)

    def beside(self, suffix: str, sha256: str | None = None) -> bytes | None:
        """Return what lies beside it in any folder; None where it is not what the record says."""
        for store in self.stores:
            path = store.path(self.record.case, suffix)
            if path.is_symlink():  # of files that are nobody's to give away
                continue
            try:
                content = path.read_bytes()
            except OSError:
                continue
            if sha256 is None or digest(content) == sha256:
                return content
        return None


def merge(folders: Sequence[Path], out: Path) -> Merged:
    """Bring all records of some folders into one, and write its tables.

    What is there stays as it is, so that a merge that was cut short is finished by the same call.
    Raises BadData, before anything is written, where a folder is none or two hold different results
    of one case, BadSetting where the place is among the records of a folder, and Unwritable.
    """
    _refuse_among_records(out)
    for folder in folders:
        if not any((folder / kind.PLACE).is_dir() for kind in KINDS):
            raise BadData(
                f"'{folder}' is no results folder: it has none of "
                f"{', '.join(kind.PLACE for kind in KINDS)}. Name one that a run wrote."
            )
    merged = Merged()
    found = [(kind(out), _gather(kind, [out, *folders], merged)) for kind in KINDS]
    tables = [place.record for place in found[0][1].values()]
    leaderboard(one for one in tables if isinstance(one, Record))  # refuses what no table may mix
    for store, places in found:
        for place in places.values():
            _take(place, store, merged)
    for folder in folders:
        for path in sorted((folder / "asked").glob("*.json")):
            if not (target := out / "asked" / path.name).is_file():
                write(target, path.read_bytes())
    store = Store(out)
    if found[0][1]:
        write_table(out, leaderboard(store.records()))
    for kind, tables in DERIVED.items():
        if (out / kind.PLACE).is_dir():
            write_tables(kind(out), tables)
    return merged


def _refuse_among_records(out: Path) -> None:
    """Raise BadSetting for a place where a results folder keeps its records."""
    places = {kind.PLACE for kind in KINDS}
    for folder in (here := out.resolve(), *here.parents):
        if folder.name in places and any(len(o.stem) == KEY for o in folder.glob("??/*.json")):
            raise BadSetting(
                f"'{out}' lies among the records of the results folder '{folder.parent}'. Name "
                "that folder, or one outside of it."
            )


def _gather(
    kind: type[RecordStore[Any, Any]], folders: Sequence[Path], merged: Merged
) -> dict[str, _Place]:
    """Return the records of one kind by key; raises BadData on different results of one case."""
    found: dict[str, _Place] = {}
    conflicts: list[tuple[Path, Path, SealedRecord[Any]]] = []
    for folder in dict.fromkeys(folders):
        store = kind(folder)
        records, broken = store.survey()
        merged.broken |= {path: why_none(path, kind.RECORD) for path in broken}
        for record in records:
            place = found.setdefault(record.case.key, _Place(record, []))
            if place.record != record:
                if _result(place.record) != _result(record):
                    conflicts.append((place.path(), store.path(record.case), record))
                    continue
                merged.again += 1
            place.stores.append(store)
    if conflicts:
        first, second, record = conflicts[0]
        more = f", and {len(conflicts) - 1} cases more do" if len(conflicts) > 1 else ""
        raise BadData(
            f"'{first}' and '{second}' hold different results of one case, "
            f"{record.case.parts()[0].label} on {record.case.model.label}{more}. Nothing was "
            "merged; find out which is right, and delete the other."
        )
    return found


def _result(record: SealedRecord[Any]) -> SealedRecord[Any]:
    """Return a record without the time and the place that it took."""
    assert isinstance(record, Record | UtilityRecord | BoundRecord | PriceRecord)
    near = record.errors(DIGITS) if isinstance(record, BoundRecord) else {}
    return replace(record, seconds=0.0, environment={}, **near)


def _take(place: _Place, store: RecordStore[Any, Any], merged: Merged) -> None:
    """Write what is not there: what lies beside a record first, then the record."""
    record = place.record
    if isinstance(record, Record):
        sha256 = record.answers_sha256
        for suffix, due in ((".png", None), (".npz", sha256)):
            target = store.path(record.case, suffix)
            content = place.beside(suffix, due) if due != "" else None
            if content is not None and (not target.is_file() or target.read_bytes() != content):
                write(target, content)
            merged.bare += suffix == ".npz" and bool(sha256) and content is None
    if place.stores[0].folder == store.folder:
        merged.there += 1
        return
    write(store.path(record.case), record.to_json().encode())
    merged.taken += 1
