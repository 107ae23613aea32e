"""The picture beside a record: private, fed and found images in three rows."""

import io
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
MOST = 2**26
"""Pixels of a picture file; a small file may claim any number of them."""


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
    """Pixels (h, w, 3) of a PNG; raises OSError where it is none, or larger than any of ours."""
    bomb = Image.DecompressionBombWarning, Image.DecompressionBombError
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content), formats=["PNG"])
        if picture.width * picture.height > MOST:
            raise OSError("more pixels than a picture beside a record has")
        return np.asarray(picture.convert("RGB"))
    except (SyntaxError, ValueError, *bomb) as error:
        raise OSError(f"no picture: {error}") from None
