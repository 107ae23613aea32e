"""Files beside a record that somebody made to break who reads them: each is told in a sentence."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest

from privbench.records.answers import digest
from privbench.records.store import Store
from privbench.submission.check import check
from tests.submission.forging import forge, one


def lying(content: bytes) -> bytes:
    """An array whose header promises more than a computer has."""
    head = io.BytesIO()
    facts = {"descr": "<f4", "fortran_order": False, "shape": (1, 3, 10**6, 10**7)}
    np.lib.format.write_array_header_1_0(head, facts)
    return rezipped(content, lambda name, one: head.getvalue() if name == "images.npy" else one)


def rezipped(content: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    old, buffer = ZipFile(io.BytesIO(content)), io.BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return buffer.getvalue()


def with_byte(content: bytes, at: int, after: int, value: int) -> bytes:
    """Change a byte of the first file's own head and of its entry in the directory."""
    spoiled = bytearray(content)
    spoiled[at] = spoiled[content.index(b"PK\x01\x02") + after] = value
    return bytes(spoiled)


def scrambled(content: bytes) -> bytes:
    middle = content.index(b"PK\x01\x02") // 2
    return content[:middle] + bytes(40) + content[middle + 40 :]


def repacked(**changes: Callable[[np.ndarray], object]) -> Callable[[bytes], bytes]:
    """Change some arrays as no attack leaves them."""

    def spoil(content: bytes) -> bytes:
        with np.load(io.BytesIO(content)) as file:
            found = {name: file[name] for name in file.files}
        for name, change in changes.items():
            found[name] = np.asarray(change(found[name]))
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **found)
        return buffer.getvalue()

    return spoil


FILES = {
    "letters": repacked(images=lambda a: a.astype(str)),
    "no pictures": repacked(images=lambda a: a[:0]),
    "doubles": repacked(images=lambda a: a.astype(float)),
    "a number": repacked(images=lambda a: np.float32(1)),
    "a mean of letters": repacked(mean=lambda a: ["a", "b", "c"]),
    "seven colors": repacked(mean=lambda a: np.zeros(7, np.float32)),
    "no patch": repacked(patch=lambda a: 0),
    "two patches": repacked(patch=lambda a: [1, 2]),
    "a flat mask": repacked(mask=lambda a: True),
    "a mask of letters": repacked(mask=lambda a: a.astype(str)),
    "another input": repacked(entered=lambda a: np.zeros(3, np.float32)),
    "a member of letters": repacked(**{"member/mean": lambda a: "x"}),
    "lying": lying,
    "a bomb": lambda c: rezipped(c, lambda name, one: one + bytes(2**28)),
    "encrypted": lambda c: with_byte(c, 6, 8, 1),
    "packed otherwise": lambda c: with_byte(c, 8, 10, 99),
    "scrambled": scrambled,
    "short": lambda c: c[:-30],
    "no archive": lambda c: b"hello",
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_of_answers_that_is_none_is_told(what, submission, victims):
    record = one(submission)
    path = Store(submission).path(record.case, ".npz")
    content = FILES[what](path.read_bytes())
    path.write_bytes(content)
    forged = forge(submission, record, answers_sha256=digest(content))
    [fault] = check([forged], victims=victims).faults
    assert "missing or was edited" in fault.sentence


def huge(path: Path) -> None:
    """A picture whose head promises 60,000 pixels a side."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)


@pytest.mark.parametrize(
    "spoil", [huge, Path.unlink, lambda p: p.write_text("<svg onload='alert(1)'/>")]
)
def test_a_picture_that_is_none_is_told(spoil, submission, victims):
    path = Store(submission).path(one(submission).case)
    spoil(path.with_suffix(".png"))
    [fault] = check([path], victims=victims).faults
    assert "no picture beside it" in fault.sentence


@pytest.mark.parametrize("suffix", [".json", ".png", ".npz"])
def test_a_link_is_no_part_of_a_submission(suffix, submission, tmp_path, victims):
    path = Store(submission).path(one(submission).case, suffix)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    [fault] = check([path.with_suffix(".json")], victims=victims).faults
    assert "is a link" in fault.sentence
