"""How tests spoil a record, or the answers beside it, so that each still has its right digest."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from privbench.records.answers import Answers, digest, unpack
from privbench.records.case import Record
from privbench.records.store import Store


def one(folder: Path, attack: str = "auto") -> Record:
    found = [r for r in Store(folder).survey()[0] if r.case.attack.name == attack]
    return min(found, key=lambda record: record.case.images)


def forge(folder: Path, record: Record, **changes: object) -> Path:
    """Put a changed record, sealed anew, in the place of the old, and return its file."""
    (folder / "leaderboard.csv").unlink(missing_ok=True)
    place = Store(folder).path
    new = replace(record, **changes)
    files = {suffix: place(record.case, suffix) for suffix in (".json", ".npz", ".png")}
    contents = {suffix: path.read_bytes() for suffix, path in files.items() if path.is_file()}
    for path in files.values():
        path.unlink(missing_ok=True)
    for suffix in (".npz", ".png"):
        place(new.case, suffix).parent.mkdir(parents=True, exist_ok=True)
        place(new.case, suffix).write_bytes(contents[suffix])
    Store(folder).put(new)
    return place(new.case)


def swap(submission: Path, change: Callable[[Answers], dict[str, object]]) -> Path:
    """Store other answers than those that were scored, and their digest."""
    record = one(submission)
    path = Store(submission).path(record.case, ".npz")
    answers = unpack(path.read_bytes(), record.answers_sha256)
    assert answers is not None
    content = replace(answers, **change(answers)).pack()
    path.write_bytes(content)
    return forge(submission, record, answers_sha256=digest(content))


def forge_again(path: Path, record: Record, **changes: object) -> Path:
    path.write_text(replace(record, **changes).to_json())
    return path
