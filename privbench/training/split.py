"""The pictures of a split: in memory where they are small, else opened when asked for."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from privbench.component import find, make
from privbench.dataset import Dataset
from privbench.errors import BadData, Unreadable
from privbench.running.tolerance import left_out, refuse_many
from privbench.threat import Images

SMALL = 64
"""Side in pixels up to which a split is kept in memory."""
OTHERS = {"test": ("val", "valid", "validation")}
"""What else a split's folder is called."""
CHUNK = 32
"""Pictures that a thread reads in one go."""


class Split:
    """Numbered pictures with labels that a victim of a given side and number of classes takes."""

    def __init__(self, pictures: Dataset, side: int, classes: int) -> None:
        """Check what can be checked without opening every picture; raises BadData."""
        self.pictures, self.side, self.classes = pictures, side, classes
        self.everyone: Int[Tensor, " n"] = torch.tensor(pictures.labels(classes))
        self.leave_out({})
        self.kept: dict[int, np.ndarray[Any, Any]] | None = {} if side <= SMALL else None
        for number in self.numbers:
            with suppress(Unreadable):
                pictures.load([number], side, classes)
                break

    def __len__(self) -> int:
        return len(self.numbers)

    def read_through(self, report: Callable[[int, int], None]) -> None:
        """Decode every picture, and keep the small ones; raises BadData.

        Unreadable ones are left out from here on, unless they are more than a thousandth.
        """
        total = len(self.everyone)
        parts = [range(first, min(first + CHUNK, total)) for first in range(0, total, CHUNK)]
        pool = ThreadPoolExecutor()  # decoders let other threads run
        try:
            for part, _ in zip(parts, pool.map(self._decode, parts), strict=True):
                refuse_many(self.unreadable, total)
                report(part[-1] + 1, total)
        finally:
            pool.shutdown(cancel_futures=True)
        self.leave_out(dict(sorted(self.unreadable.items())))

    def leave_out(self, unreadable: dict[int, str]) -> None:
        """Do without these pictures."""
        self.unreadable = unreadable
        self.numbers = [n for n in range(len(self.everyone)) if n not in unreadable]
        """Of the pictures that can be read."""
        self.labels: Int[Tensor, " n"] = self.everyone[self.numbers]

    def complaint(self) -> str:
        """Return a sentence on unreadable pictures; empty without any."""
        return left_out(self.unreadable, len(self.everyone))

    def picture(self, index: int) -> Image.Image:
        """Return a readable picture in RGB as it is stored, of any size."""
        number = self.numbers[index]
        if not self.kept:
            return self.pictures.picture(number)
        return Image.fromarray(self.kept[number])

    def load(self, indices: Sequence[int]) -> tuple[Images, Int[Tensor, " b"]]:
        """Return pictures as the victim takes them when nothing is drawn at random."""
        numbers = [self.numbers[index] for index in indices]
        shown = [self.kept[number] for number in numbers] if self.kept else []
        if not shown or any(one.shape[:2] != (self.side, self.side) for one in shown):
            return self.pictures.load(numbers, self.side, self.classes)
        images = torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2) / 255
        return images.contiguous(), self.everyone[numbers]

    @cached_property
    def _listing(self) -> str:
        return self.pictures.listing()

    def _decode(self, part: Sequence[int]) -> None:
        for number in part:
            try:
                pixels = np.asarray(self.pictures.picture(number))
            except Unreadable as error:
                self.unreadable[number] = str(error)
                continue
            if self.kept is not None:
                self.kept[number] = pixels

    def fingerprint(self) -> str:
        """Return a hash of pixels and labels, or of names, sizes and labels of large pictures."""
        digest = hashlib.sha256(self.labels.numpy().tobytes())
        if self.kept is None:
            digest.update(self._listing.encode())
        for array in [self.kept[number] for number in self.numbers] if self.kept else ():
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
    """Open a split; a data set without splits of its own has folders train and test, or val."""
    given: dict[str, Any] = dict(settings)
    if "split" in find(Dataset, name).setting_names():
        given |= {"split": split, "root": root}
    elif root is not None:
        given["root"] = _folder_of(root, split)
    pictures = make(Dataset, name, given)
    if not len(pictures):
        raise BadData(f"{name} has no {split} pictures. Name another --data-root.")
    return Split(pictures, side, classes)


def _folder_of(root: Path, split: str) -> Path:
    """Return the folder of a split; test pictures often lie in one that is called val."""
    names = [split, *OTHERS.get(split, ())]
    if found := next((root / name for name in names if (root / name).is_dir()), None):
        return found
    if not root.is_dir():
        raise BadData(f"'{root}' is not a folder. Name one with --data-root PATH.")
    raise BadData(
        f"'{root}' holds no folder {' or '.join(names)}; training takes pictures from train and "
        "tests with those of test or val. Name the folder above them with --data-root PATH."
    )
