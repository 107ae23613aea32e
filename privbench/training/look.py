"""Every picture is decoded before a training begins, so that none can end it on the way."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from privbench.records.store import write
from privbench.training.split import Split

FILE = "pictures.json"
"""Beside the checkpoint: which pictures were looked at, and which of them are unreadable."""

Report = Callable[[str, int, int], None]
"""Called with what is read, the pictures done and all pictures."""


def silent(what: str, done: int, total: int) -> None:
    """Ignore progress."""


def look_through(
    splits: Mapping[str, Split], folder: Path, engine: Accelerator, report: Report
) -> None:
    """Decode all pictures and leave out those that cannot be; raises BadData, Unwritable.

    Small ones every process keeps; large ones the first process looks at, once for a folder: the
    same files are not looked at again.
    """
    for name, split in splits.items():
        if split.kept is not None:
            split.read_through(
                lambda done, total, name=name: report(f"{name} pictures", done, total)
            )
    large = {name: split for name, split in splits.items() if split.kept is None}
    if not large:
        return
    with engine.main_process_first():
        known, found = _remembered(folder / FILE), {}
        for name, split in large.items():
            found[name] = _looked_at(name, split, known.get(name), report)
        if engine.is_main_process and found != known:
            write(folder / FILE, json.dumps(found, indent=1, sort_keys=True).encode())


def _looked_at(name: str, split: Split, known: Any, report: Report) -> dict[str, Any]:
    """Return what to remember of a split: its fingerprint, and what cannot be read in it."""
    fingerprint = split.fingerprint()
    match known:
        case {"fingerprint": str(same), "unreadable": dict(unreadable)} if same == fingerprint:
            split.leave_out({int(number): str(text) for number, text in unreadable.items()})
        case _:
            split.read_through(lambda done, total: report(f"{name} pictures", done, total))
    unreadable = {str(number): text for number, text in split.unreadable.items()}
    return {"fingerprint": fingerprint, "unreadable": unreadable}


def _remembered(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
