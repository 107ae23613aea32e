"""The picture beside a record: private, fed and found images in three rows."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def draw(*rows: npt.ArrayLike) -> bytes:
    """PNG of batches (b, 3, h, w) in [0, 1], a row for each."""
    lines = [
        np.concatenate(list(np.rint(np.clip(row, 0, 1) * 255).astype(np.uint8)), 1)
        for row in (np.moveaxis(np.asarray(row, np.float32), 1, 3) for row in rows)
    ]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(lines, 0)).save(buffer, format="PNG")
    return buffer.getvalue()


def read(path: Path, rows: int = 3) -> list[list[Pixels]]:
    """Tiles (h, w, 3) of such a PNG, row by row."""
    whole = pixels(path.read_bytes())
    side = whole.shape[0] // rows
    return [
        [whole[y : y + side, x : x + side] for x in range(0, whole.shape[1], side)]
        for y in range(0, rows * side, side)
    ]


def pixels(content: bytes) -> Pixels:
    """Pixels (h, w, 3) of a picture file; raises OSError where it is none."""
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB"))
