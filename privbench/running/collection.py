"""Which pictures belong together: digests of the user's files, by content."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from privbench.dataset import Dataset
from privbench.errors import PrivbenchError

BLOCK = 2**20
"""Bytes that are read at once."""
MOST = 2**29
"""Bytes of a data set that are read to tell it from others, half a second's work; a larger one
goes by the names and sizes of all its files, and each picture that is used by its content."""


def content_digests(pictures: Dataset, numbers: Sequence[int]) -> list[str]:
    """Return a digest of each picture's content, in order: of its file, else of its pixels.

    One that cannot be read has a digest of its own, so that it counts once it can be.
    """
    files = list(pictures.stored().values())
    if len(files) == len(pictures):
        with ThreadPoolExecutor() as pool:  # reading and hashing let other threads run
            return list(pool.map(_of_file, [files[number] for number in numbers]))
    return [_of_pixels(pictures, number) for number in numbers]


def collection(pictures: Dataset) -> str:
    """Return what tells a user's data set from others of its name; empty of what comes along."""
    if pictures.root is None or not len(pictures):
        return ""
    files = pictures.stored()
    whole = sum(path.stat().st_size for path in files.values()) <= MOST
    if not files or not whole:
        return hashlib.sha256(pictures.listing().encode()).hexdigest()
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(_of_file, files.values()))
    return hashlib.sha256(str(sorted(zip(files, found, strict=True))).encode()).hexdigest()


def _of_file(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except OSError:
        return "unreadable"
    return digest.hexdigest()


def _of_pixels(pictures: Dataset, number: int) -> str:
    try:
        image = pictures.picture(number)
    except PrivbenchError:
        return "unreadable"
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
