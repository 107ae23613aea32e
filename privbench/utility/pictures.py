"""The pictures of one data set as a model takes them; some may be unreadable, few enough."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from privbench.component import Part
from privbench.dataset import Dataset
from privbench.errors import BadSetting, Unreadable
from privbench.running.collection import content_digests
from privbench.running.labels import Placed, mapped, own_classes
from privbench.running.tolerance import left_out, refuse_many
from privbench.seeds import generator
from privbench.threat import Images

SMALL = 64
"""Side in pixels up to which pictures are known by their pixels, larger ones by their files'
content: decoding takes twenty times as long as reading."""
CHUNK = 32
"""Pictures that a thread reads in one go."""
HASHED = 1000
"""Pictures that are read and hashed at once."""

Report = Callable[[str, int, int], None]
"""Called with what is done, the pictures done and all pictures."""


def silent(*_: object) -> None:
    """Tell nobody."""


@dataclass
class Gallery:
    """Chosen pictures of a data set with their labels; opened when asked for, the small once."""

    part: Part
    pictures: Dataset
    side: int
    classes: int
    chosen: Sequence[int]
    keep: bool = False
    """Whether small pictures stay in memory, since several passes show them."""
    placed: Placed | None = None
    """Columns of the model's head by class; None where labels are columns."""
    note: str = ""
    """What a reader of the figures has to know of the labels."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """What is wrong with a picture, by its number."""
    report: Report = silent
    """Told how far the reading is, before anything is measured."""
    _kept: dict[int, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.chosen)

    def load(self, numbers: Sequence[int]) -> tuple[Images, Int[Tensor, " b"], list[int]]:
        """Return pictures, their labels, and their places among the wanted numbers.

        Raises BadData where more than a thousandth of all cannot be read.
        """
        fresh = [number for number in numbers if number not in self._kept | self.unreadable]
        parts = [fresh[first : first + CHUNK] for first in range(0, len(fresh), CHUNK)]
        with ThreadPoolExecutor() as pool:  # decoders let other threads run
            read = {number: one for part in pool.map(self._read, parts) for number, one in part}
        if self.keep and self.side <= SMALL:
            self._kept |= read
        refuse_many(self.unreadable, len(self))
        at = [place for place, number in enumerate(numbers) if number not in self.unreadable]
        pixels = [(read | self._kept)[numbers[place]] for place in at]
        images = torch.stack(pixels) / 255 if at else torch.zeros(0, 3, self.side, self.side)
        return images, self.labels[[numbers[place] for place in at]], at

    @cached_property
    def labels(self) -> Int[Tensor, " n"]:
        """Return the label of every picture of the data set, chosen or not."""
        found = self.pictures.labels(self._asked)
        return torch.tensor(mapped(self.pictures, found, self.placed))

    @cached_property
    def _asked(self) -> int:
        return own_classes(self.pictures, self.placed, self.classes)

    def columns(self) -> list[int] | None:
        """Return the columns among which the model's answer is chosen; None for all of them."""
        own = self.pictures.columns()
        return own if own is None else mapped(self.pictures, own, self.placed)

    @cached_property
    def sha256(self) -> str:
        """Return a hash of labels, choice, and pixels; of large pictures the files' content."""
        digest = hashlib.sha256(self.labels.numpy().tobytes() + str(list(self.chosen)).encode())
        title, total = f"{self.part.name}: reading pictures", len(self.chosen)
        large = self.side > SMALL
        if large:
            digest.update(f"content {self.side}".encode())
        for first in range(0, total, HASHED):
            numbers = self.chosen[first : first + HASHED]
            if large:
                digest.update("".join(content_digests(self.pictures, numbers)).encode())
            else:
                images, _, at = self.load(numbers)
                digest.update(str(at).encode() + (images * 255).round().byte().numpy().tobytes())
            if total > HASHED:
                self.report(title, min(first + HASHED, total), total)
        return digest.hexdigest()

    def complaint(self) -> str:
        """Return a sentence on unreadable pictures; empty without any."""
        return left_out(self.unreadable, len(self))

    def _read(self, numbers: Sequence[int]) -> list[tuple[int, Tensor]]:
        """Read a few pictures as 8-bit numbers; one by one where one of them is unreadable."""
        try:
            images, _ = self.pictures.load(numbers, self.side, self._asked)
        except Unreadable as error:
            if len(numbers) > 1:
                return [found for number in numbers for found in self._read([number])]
            self.unreadable[numbers[0]] = str(error)
            return []
        return list(zip(numbers, (images * 255).round().byte(), strict=True))


def choose(count: int, images: int | None) -> Sequence[int]:
    """Return the numbers of all pictures, or of a fixed random part of them."""
    if images is None or images == count:
        return range(count)
    if not 1 <= images <= count:
        raise BadSetting(f"--images is a number from 1 to {count} here, not {images}.")
    order = torch.randperm(count, generator=generator("part of", count))
    return sorted(order[:images].tolist())
