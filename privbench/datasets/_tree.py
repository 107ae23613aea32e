"""Folders that the user names, and the pictures in their class folders."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from privbench.dataset import Dataset
from privbench.datasets._pictures import EXTENSIONS, refuse_unread
from privbench.errors import BadData, BadSetting

SHOWN = 3
"""Names that a sentence lists before it breaks off."""


def name_of(data: Dataset) -> str:
    """Return the name on the command line: the file's."""
    return type(data).__module__.rpartition(".")[2]


def options(data: Dataset) -> str:
    """Return how a user names the folder of a released data set; only `eval` has both ways."""
    return f"--data-root PATH, or in `privbench eval` --{name_of(data).replace('_', '-')} PATH"


def root_of(data: Dataset) -> Path:
    """Return the user's folder; raises where none is named, or what is named is none."""
    if data.root is None:
        raise BadSetting(
            f"{name_of(data)} needs a folder with its pictures. Name one with {options(data)}."
        )
    if not data.root.is_dir():
        raise BadData(f"'{data.root}' is not a folder. Name one with {options(data)}.")
    return data.root


def folders(top: Path) -> list[str]:
    """Return the names of folders, hidden ones left out."""
    return sorted(entry.name for entry in _entries(top) if entry.is_dir())


def pictures(top: Path) -> list[str]:
    """Return the names of pictures right inside a folder, hidden ones left out."""
    entries = _entries(top)
    refuse_unread(top, [entry.name for entry in entries])
    return sorted(
        entry.name
        for entry in entries
        if entry.name.lower().endswith(EXTENSIONS) and entry.is_file()
    )


def walk(top: Path, labels: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return FOLDER/FILE and label of all pictures, in the order of the class folders given."""
    found = []
    for folder, label in labels.items():
        if not (names := pictures(top / folder)):
            raise BadData(
                f"'{top / folder}' holds no pictures ({' '.join(EXTENSIONS)}). "
                "Unpack the data set anew."
            )
        found += [(f"{folder}/{name}", label) for name in names]
    return found


def deeper(top: Path, wanted: Collection[str]) -> Path | None:
    """Return the folder right inside that holds what was looked for one level too high."""
    inside = (top / name for name in folders(top)[:20])
    return next((one for one in inside if set(wanted) & set(folders(one))), None)


def some(names: Collection[str]) -> str:
    """Return the first few of many names."""
    return ", ".join(list(names)[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _entries(top: Path) -> list[os.DirEntry[str]]:
    """List a folder in one system call: trees here have 50,000 files, 75 times."""
    try:
        with os.scandir(top) as found:
            return [entry for entry in found if entry.name[0] != "."]
    except OSError as error:
        raise BadData(
            f"'{top}' cannot be read: {error.strerror}. Check its permissions, or name another "
            "folder."
        ) from None
