"""Looks through records that somebody else made, and says what does not hold."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from privbench.errors import PrivbenchError
from privbench.records.case import Case, Record
from privbench.records.store import Store
from privbench.records.utility import UtilityRecord
from privbench.reports.leaderboard import TABLE, leaderboard, to_csv
from privbench.running.plan import plan
from privbench.running.suite import Suite
from privbench.running.victims import Victims
from privbench.submission.derived import Derivation
from privbench.submission.faults import Findings, printable
from privbench.submission.named import Naming
from privbench.submission.numbers import number_faults
from privbench.submission.reading import Found, read_all
from privbench.submission.requests import request_faults

CPU = torch.device("cpu")


def check(
    paths: Iterable[Path],
    suite: Suite | None = None,
    data_root: Path | None = None,
    victims: Victims | None = None,
) -> Findings:
    """Return all faults of records in files and folders; raises BadData where there are none.

    With a suite, cases of it that have no record are faults, too. Pictures of a user's own folder
    are compared where the folder is named. Victims that are built already are not built again.
    """
    findings, given = Findings(), list(paths)
    found = read_all(given, findings)
    findings.records = len(found)
    cache, naming = victims or Victims(CPU), Naming()
    derivation = Derivation(data_root, findings, cache)
    for path, record in found.items():
        for kind, sentence in _faults(record, path, naming, derivation):
            findings.add(path, kind, sentence)
        if isinstance(record, Record) and record.status != "done":
            findings.lose(path, record.status, record.error or "")
    _twice(found, findings)
    cases = {} if suite is None else {job.case.key: job.case for job in plan(suite, CPU, cache)}
    keys = {suite.label: cases.keys()} if suite is not None and suite.label else {}
    sets = {record.case.key: record.case.dataset.name for record in found.values()}
    for path in given:
        if path.is_dir():
            request_faults(Store(path).asked, sets, keys, findings)
            _table(path, found, findings)
    _missing(cases, found, findings)
    faulty = {fault.place for fault in findings.faults}
    findings.sound = sum(printable(str(path)) not in faulty for path in found)
    return findings


def _faults(
    record: object, path: Path, naming: Naming, derivation: Derivation
) -> list[tuple[str, str]]:
    assert isinstance(record, Record | UtilityRecord)
    faults = naming.faults(record.case)
    if any(kind in ("component", "schema") for kind, _ in faults):
        return faults + list(number_faults(record))  # what is of other code cannot be made again
    faults += [*number_faults(record), *derivation.weights_faults(record.case)]
    if isinstance(record, Record) and record.status == "done":
        faults += derivation.record_faults(record, path)
    return faults


def _twice(found: Found, findings: Findings) -> None:
    """Note records of one case with different content."""
    first: dict[str, Path] = {}
    for path, record in found.items():
        other = first.setdefault(record.case.key, path)
        if found[other] != record:
            findings.add(path, "seal", f"holds another result of the case that '{other}' holds.")


def _table(folder: Path, found: Found, findings: Findings) -> None:
    """Note a table that its records do not give; without a table there is none to doubt."""
    file, store = folder / TABLE, Store(folder)
    if not file.is_file():
        return
    own = [
        one
        for path, one in found.items()
        if isinstance(one, Record) and path.is_relative_to(folder / store.PLACE)
    ]
    try:
        due = to_csv(leaderboard(store.shown(own)))
    except PrivbenchError as error:
        findings.add(file, "table", f"cannot be made from its records: {error}")
        return
    if (said := file.read_bytes()) != due:
        findings.add(
            file, "table", f"is not what its records give: {_first_difference(said, due)}."
        )


def _first_difference(said: bytes, due: bytes) -> str:
    """Say where two tables differ first."""
    one, other = (list(csv.reader(io.StringIO(t.decode("utf-8", "replace")))) for t in (said, due))
    for number, (left, right) in enumerate(zip(one, other, strict=False)):
        for place, (a, b) in enumerate(zip(left, right, strict=False)):
            if a != b:
                column = other[0][place]
                return f"row {number}, {column}: {a or 'nothing'} instead of {b or 'nothing'}"
        if len(left) != len(right):
            return f"row {number} has {len(left)} columns instead of {len(right)}"
    return f"{len(one)} rows instead of {len(other)}"


def _missing(cases: Mapping[str, Case], found: Found, findings: Findings) -> None:
    there = {record.case.key for record in found.values()}
    for key, case in cases.items():
        if key not in there:
            images = ",".join(map(str, case.images))
            findings.add(
                f"{case.attack.label} on {case.model.label} with {case.defended}, image {images}",
                "missing",
                "has no record among these.",
            )
