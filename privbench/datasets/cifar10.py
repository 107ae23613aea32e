"""CIFAR-10 (Krizhevsky, 2009): a bundled sample of 100 test pictures, or the user's own copy."""

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

import torchvision
from PIL import Image

from privbench.datasets import _tree as tree
from privbench.datasets._pictures import open_rgb
from privbench.datasets._small import (
    CIFAR10_CLASSES,
    SIDE,
    Pictures,
    Small,
    Split,
    from_batches,
    in_class_folders,
)
from privbench.errors import BadData, BadSetting

BATCHES = torchvision.datasets.CIFAR10.base_folder


class CIFAR10(Small):
    """CIFAR-10 from --data-root, or without it the bundled sample, ten of each class.

    The root holds torchvision's `cifar-10-batches-py`, or class folders with pictures, if wanted
    inside a folder `test` or `train`.
    """

    names: ClassVar[Sequence[str]] = CIFAR10_CLASSES
    instead: ClassVar[str] = "--dataset photos or folder, or "
    split: Split = "test"
    download: bool = False
    """Let torchvision put what is missing into the root."""

    def find(self) -> Pictures:
        """Open what the settings name."""
        if self.root is None and (self.download or self.split != "test"):
            wish = "download" if self.download else f"split '{self.split}'"
            raise BadSetting(
                f"cifar10: {wish} needs a folder, since the bundled sample has only 100 test "
                "pictures. Name one with --data-root PATH."
            )
        if self.root is None:
            return sample()
        if self.download or (self.root / BATCHES).is_dir():
            kind = torchvision.datasets.CIFAR10
            return from_batches(kind, "CIFAR-10", self.root, self.split, self.download)
        return from_folder(self.root, self.split)


@cache
def sample() -> Pictures:
    """Open the bundled mosaic: picture i is of class i % 10."""
    assets = files("privbench.assets")
    facts = json.loads((assets / "cifar10_sample.json").read_text(encoding="utf-8"))
    mosaic = open_rgb(assets / "cifar10_sample.webp", "cifar10_sample.webp")

    def tile(index: int) -> Image.Image:
        row, column = divmod(index, facts["tiles"]["columns"])
        left, top = column * SIDE, row * SIDE
        return mosaic.crop((left, top, left + SIDE, top + SIDE))

    return Pictures(facts["labels"], tile)


def from_folder(root: Path, split: Split) -> Pictures:
    """Read class folders, as torchvision's ImageFolder does."""
    folder = root / split if (root / split).is_dir() else root
    if not folder.is_dir():
        raise BadData(f"'{root}' is not a folder. Name one that holds CIFAR-10 with --data-root.")
    if (names := tree.folders(folder)) != CIFAR10_CLASSES:
        found = ", ".join(names[:12]) or "no folders"
        raise BadData(
            f"'{folder}' is not CIFAR-10: it needs {BATCHES} or the ten class folders "
            f"{', '.join(CIFAR10_CLASSES)}; it has {found}. Name another --data-root or add "
            "--set dataset.download=true."
        )
    return in_class_folders("CIFAR-10", folder, CIFAR10_CLASSES)
