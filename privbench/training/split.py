"""The pictures of a split: in memory where they are small, else opened when asked for."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from privbench.component import find, make
from privbench.dataset import Dataset
from privbench.errors import BadData
from privbench.threat import Images

SMALL = 64
"""Side in pixels up to which a split is kept in memory."""
CHUNK = 1000


class Split:
    """Numbered pictures with labels that a victim of a given side and number of classes takes."""

    def __init__(self, pictures: Dataset, side: int, classes: int) -> None:
        """Check what can be checked without opening every large picture; raises BadData."""
        self.pictures, self.side, self.classes = pictures, side, classes
        self.labels: Int[Tensor, " n"] = torch.tensor(pictures.labels(classes))
        pictures.load([0], side, classes)
        self.kept: list[np.ndarray[Any, Any]] | None = None
        if side <= SMALL:
            self.kept = [np.asarray(pictures.picture(index)) for index in range(len(self.labels))]

    def __len__(self) -> int:
        return len(self.labels)

    def picture(self, index: int) -> Image.Image:
        """Return a picture in RGB as it is stored, of any size."""
        if self.kept is None:
            return self.pictures.picture(index)
        return Image.fromarray(self.kept[index])

    def load(self, indices: Sequence[int]) -> tuple[Images, Int[Tensor, " b"]]:
        """Return pictures as the victim takes them when nothing is drawn at random."""
        if self.kept is None:
            return self.pictures.load(indices, self.side, self.classes)
        shown = np.stack([self.kept[index] for index in indices])
        if shown.shape[1:3] != (self.side, self.side):
            return self.pictures.load(indices, self.side, self.classes)
        images = torch.from_numpy(shown).permute(0, 3, 1, 2) / 255
        return images.contiguous(), self.labels[list(indices)]

    def fingerprint(self) -> str:
        """Return a hash of pixels and labels, or of names, sizes and labels of large pictures."""
        digest = hashlib.sha256(self.labels.numpy().tobytes())
        if self.kept is None:
            digest.update(self.pictures.listing().encode())
        for array in self.kept or ():
            digest.update(str(array.shape).encode() + array.tobytes())
        return digest.hexdigest()


def read_split(
    name: str,
    root: Path | None,
    split: str,
    settings: dict[str, Any],
    side: int,
    classes: int,
) -> Split:
    """Open a split; a data set without splits of its own has folders train and test."""
    given: dict[str, Any] = dict(settings)
    if "split" in find(Dataset, name).setting_names():
        given |= {"split": split, "root": root}
    elif root is not None:
        given["root"] = root / split
    pictures = make(Dataset, name, given)
    if not len(pictures):
        raise BadData(f"{name} has no {split} pictures. Name another --data-root.")
    return Split(pictures, side, classes)
