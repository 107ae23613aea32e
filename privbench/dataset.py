"""Dataset: private pictures for the client, with labels."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from jaxtyping import Int
from PIL import Image
from torch import Tensor

from privbench.component import Component
from privbench.threat import Images

ANY = 2**31
"""More classes than any model has: asked for so many, a data set gives labels as they are."""


class Dataset(Component, ABC):
    """A numbered list of pictures."""

    shelf: ClassVar[str] = "datasets"
    standard_order: ClassVar[bool] = False
    """Whether everybody numbers its classes alike, so that a model's columns need no names."""
    usual_crop: ClassVar[float] = 1.0
    """Share of the short side that is kept where a setting `crop` is None."""
    root: Path | None = None
    """The user's folder (--data-root); what it may hold is the data set's own affair."""

    @abstractmethod
    def __len__(self) -> int:
        """Return how many pictures there are."""

    @abstractmethod
    def picture(self, index: int) -> Image.Image:
        """Return a picture in RGB as it is stored, of any size; raises BadData."""

    @abstractmethod
    def labels(self, classes: int) -> list[int]:
        """Return the label of every picture, in 0 ... classes - 1; raises BadData."""

    def class_names(self) -> list[str]:
        """Return the names of the classes by label; none where only numbers are known."""
        return []

    def columns(self) -> list[int] | None:
        """Return the labels among which a model's answer is chosen; None for all of them."""
        return None

    def labelled(self) -> bool:
        """Say whether labels mean anything; training and accuracy need that."""
        return True

    def stored(self) -> Mapping[str, Path]:
        """Return the user's files, by names that say nothing of their place; none of bundled data.

        Where each picture is a file of its own, they stand in the order of the pictures.
        """
        return {}

    def listing(self) -> str:
        """Return names and sizes, which tell most sets apart without opening any picture."""
        sizes = [f"{name} {path.stat().st_size}" for name, path in self.stored().items()]
        return "\n".join(sizes) or f"{type(self).__name__} {len(self)}"

    @abstractmethod
    def load(
        self, indices: Sequence[int], side: int, classes: int
    ) -> tuple[Images, Int[Tensor, " b"]]:
        """Return pictures of side x side pixels and their labels in 0 ... classes - 1.

        Pictures without a label get their index modulo the number of classes, since a client
        always has some label. Raises BadData when a picture or a label cannot be used.
        """


def fingerprint(pictures: Tensor, labels: Int[Tensor, " b"]) -> str:
    """Return the sha256 of pixels and labels: the same pictures have it under any name."""
    return hashlib.sha256(pictures.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
