"""Finds the files of a submission, and says of each what keeps it from being a record."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from privbench.errors import BadData
from privbench.records.case import Record
from privbench.records.sealed import SCHEMA, SealedRecord, unseal
from privbench.records.store import Store
from privbench.records.utility import UtilityRecord, UtilityStore
from privbench.submission.faults import Findings, printable

Found = dict[Path, SealedRecord[Any]]
PLACES = (Store.PLACE, UtilityStore.PLACE)
MOST = 2**27
"""Bytes of a record: numbers of 50,000 pictures in twenty columns take a fifth of it."""


class _NoJson(ValueError):
    """A word that Python reads and JSON has not."""


class Unsound(Exception):
    """Why a file is no record: a word and a sentence."""

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


def read_all(paths: Iterable[Path], findings: Findings) -> Found:
    """Return the sound records of files and folders; raises BadData where there are no files."""
    found: Found = {}
    for path in files(paths):
        try:
            found[path] = read(path)
        except Unsound as fault:
            findings.add(path, fault.kind, str(fault))
    return found


def files(paths: Iterable[Path]) -> list[Path]:
    """Return the files that ought to be records, each once; raises BadData."""
    found: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise BadData(f"There is no file or folder '{path}' to look at.")
        here = [path] if path.is_file() else below(path)
        if not here:
            raise BadData(
                f"No records under '{path}': a results folder has them in {' and '.join(PLACES)}."
            )
        found |= dict.fromkeys(here)
    return list(found)


def below(folder: Path) -> list[Path]:
    """Return a results folder's records; of another folder, all JSON files."""
    placed = [one for place in PLACES for one in folder.glob(f"{place}/*/*.json")]
    return sorted(placed or folder.rglob("*.json"))


def why_none(path: Path, kind: type[SealedRecord[Any]]) -> str:
    """Return what keeps a file from being a record of a kind, in a sentence without its name."""
    try:
        read(path, kind)
    except Unsound as fault:
        return printable(str(fault))
    return "was not whole a moment ago."  # somebody wrote it meanwhile


def read(path: Path, kind: type[SealedRecord[Any]] | None = None) -> SealedRecord[Any]:
    """Return the record in a file, of one kind or of whichever it says; raises Unsound."""
    if linked := next((one for one in beside(path) if one.is_symlink()), None):
        raise Unsound("file", f"is a link, or {linked.name} beside it is: a submission is files.")
    try:
        if (size := path.stat().st_size) > MOST:
            raise Unsound("file", f"has {size / 2**20:.0f} MiB, more than any record.")
        text = path.read_text(encoding="utf-8")
        content = json.loads(text, parse_constant=_refuse)
    except OSError as error:
        raise Unsound("file", f"cannot be read: {error.strerror}.") from None
    except json.JSONDecodeError as error:
        torn = error.pos >= len(error.doc.rstrip()) - 1 or "Unterminated" in error.msg
        what = "breaks off, a file half-written" if torn else "is no JSON"
        raise Unsound("file", f"{what}: {error.msg} at line {error.lineno}.") from None
    except _NoJson as error:
        raise Unsound("file", f"is no JSON: {error}, which a record writes as null.") from None
    except (ValueError, RecursionError):
        raise Unsound("file", "is no text that a record could be.") from None
    if not isinstance(content, dict) or "schema" not in content:
        raise Unsound("schema", "is JSON of another kind: a record says its schema.")
    if content["schema"] != SCHEMA:
        raise Unsound("schema", f"has schema {content['schema']!r}; this version reads {SCHEMA}.")
    kind = kind or _kind(content)
    if kind is None:
        raise Unsound("schema", "has no case with an attack or an evaluation.")
    try:
        unseal(text)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Unsound("seal", "was edited: its sha256 is not that of its content.") from None
    try:
        record = kind.from_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Unsound(
            "schema", f"has a field that does not fit: {where}, {first['msg']}."
        ) from None
    except KeyError as error:
        raise Unsound("schema", f"lacks the field {error}.") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise Unsound("schema", f"is {error}.") from None
    if record.case.key != path.stem:
        raise Unsound("seal", f"bears another name than its case's key, {record.case.key}.")
    return record


def beside(path: Path) -> tuple[Path, ...]:
    """Return a record's file, and those of its picture and answers."""
    return path, path.with_suffix(".png"), path.with_suffix(".npz")


def _refuse(word: str) -> float:
    raise _NoJson(word)


def _kind(content: dict[str, Any]) -> type[SealedRecord[Any]] | None:
    case = content.get("case")
    if not isinstance(case, dict):
        return None
    return Record if "attack" in case else UtilityRecord if "evaluation" in case else None
