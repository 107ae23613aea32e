"""The lossless answers beside a record: all that scoring needs but the private pictures."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

Pictures = npt.NDArray[np.float32]
"""Shape (b, 3, h, w), in [0, 1]."""
MEMBER = "member/"


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
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        return Answers(
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
    except (OSError, ValueError, KeyError, BadZipFile):
        return None


def digest(content: bytes) -> str:
    """Return the sha256 by which a record knows the file beside it."""
    return hashlib.sha256(content).hexdigest()
