"""The lossless answers beside a record: all that scoring needs but the private pictures."""

import hashlib
import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import numpy.typing as npt

Pictures = npt.NDArray[np.float32]
"""Shape (b, 3, h, w), in [0, 1]."""
MEMBER = "member/"
MOST = 2**30
"""Bytes of all arrays, unpacked; a small file may claim any number of them."""
UNREADABLE = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, IndexError, RuntimeError, MemoryError),
    *(BadZipFile, zlib.error, struct.error),
)
"""What numpy and zipfile raise on files that somebody made to break them."""


@dataclass(frozen=True)
class Answers:
    """What an attack answered, and what its score depends on besides."""

    images: Pictures
    """In the order of the private pictures."""
    mean: Pictures
    """The victim's mean color, shape (3, 1, 1): the floor."""
    patch: int
    """Side of the victim's patches, in pixels."""
    classes: int
    members: Mapping[str, Pictures] = field(default_factory=dict)
    """Of each member of an ensemble, in the order of the private pictures."""
    entered: Pictures | None = None
    """The network input, where it is not the private pictures themselves."""
    mask: npt.NDArray[np.bool_] | None = None
    """Patches that the defense treated, shape (b, n)."""

    def pack(self) -> bytes:
        """Return a compressed file that `unpack` reads, every float32 exactly."""
        given: dict[str, Any] = {
            "images": self.images,
            "mean": self.mean,
            "patch": np.array(self.patch),
            "classes": np.array(self.classes),
            **{f"{MEMBER}{name}": one for name, one in self.members.items()},
        }
        optional = {"entered": self.entered, "mask": self.mask}
        buffer = io.BytesIO()
        found = given | {name: one for name, one in optional.items() if one is not None}
        np.savez_compressed(buffer, **found)
        return buffer.getvalue()


def unpack(content: bytes, sha256: str) -> Answers | None:
    """Read what `pack` wrote; None for anything else, or another digest than the record's."""
    if digest(content) != sha256:
        return None
    try:
        found = _arrays(content)
        answers = Answers(
            images=found["images"],
            mean=found["mean"],
            patch=int(found["patch"]),
            classes=int(found["classes"]),
            members={
                name.removeprefix(MEMBER): one
                for name, one in found.items()
                if name.startswith(MEMBER)
            },
            entered=found.get("entered"),
            mask=found.get("mask"),
        )
    except UNREADABLE:
        return None
    return answers if _fits(answers) else None


def _arrays(content: bytes) -> dict[str, npt.NDArray[Any]]:
    """Return all arrays of a file that is no larger than it may be; raises what UNREADABLE has."""
    buffer = io.BytesIO(content)
    with ZipFile(buffer) as packed:
        if sum(one.file_size for one in packed.infolist()) > MOST:
            raise ValueError("more arrays than any answer has")
    with np.load(buffer, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _fits(answers: Answers) -> bool:
    """Say whether shapes and types are those of one batch, so that a score can be made of it."""
    shape, mask = answers.images.shape, answers.mask
    if len(shape) != 4 or not all(shape) or shape[1] != 3 or shape[2] != shape[3]:
        return False
    if answers.mean.size != 3 or not 0 < answers.patch <= shape[2]:
        return False
    entered = () if answers.entered is None else (answers.entered,)
    pictures = (answers.images, *answers.members.values(), *entered)
    if not all(one.dtype == np.float32 for one in (*pictures, answers.mean)):
        return False
    tokens = (shape[2] // answers.patch) ** 2
    if mask is not None and (mask.dtype != np.bool_ or mask.shape != (shape[0], tokens)):
        return False
    return all(one.shape == shape for one in pictures)


def digest(content: bytes) -> str:
    """Return the sha256 by which a record knows the file beside it."""
    return hashlib.sha256(content).hexdigest()
