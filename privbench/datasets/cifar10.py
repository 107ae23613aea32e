"""CIFAR-10 (Krizhevsky, 2009): a bundled sample of 100 test pictures, or the user's own copy."""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from http.client import HTTPException
from importlib.resources import files
from pathlib import Path
from typing import Literal

import torch
import torchvision
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from privbench.dataset import Dataset
from privbench.datasets._pictures import as_tensor, check_indices, open_rgb
from privbench.errors import BadData, BadSetting
from privbench.threat import Images

SIDE = 32
CLASSES = [
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
]
BATCHES = torchvision.datasets.CIFAR10.base_folder

Split = Literal["test", "train"]


@dataclass(frozen=True)
class Pictures:
    """Labels at hand; a picture is decoded when it is asked for."""

    labels: Sequence[int]
    picture: Callable[[int], Image.Image]


class CIFAR10(Dataset):
    """CIFAR-10 from --data-root, or without it the bundled sample, ten of each class.

    The root holds torchvision's `cifar-10-batches-py`, or class folders with pictures, if wanted
    inside a folder `test` or `train`.
    """

    split: Split = "test"
    download: bool = False
    """Let torchvision put what is missing into the root."""

    @cached_property
    def pictures(self) -> Pictures:
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
            return from_batches(self.root, self.split, self.download)
        return from_folder(self.root, self.split)

    def __len__(self) -> int:
        """Count the pictures of the split."""
        return len(self.pictures.labels)

    def picture(self, index: int) -> Image.Image:
        """Return a picture of 32 px."""
        check_indices("cifar10", [index], len(self))
        return self.pictures.picture(index)

    def class_names(self) -> list[str]:
        """Return the ten names in their usual order."""
        return CLASSES

    def labels(self, classes: int) -> list[int]:
        """Return labels 0 to 9."""
        if classes < len(CLASSES):
            raise BadData(
                f"cifar10 has {len(CLASSES)} classes, this victim knows {classes}; choose "
                "--dataset photos, or a model with at least 10 classes."
            )
        return list(self.pictures.labels)

    def load(
        self, indices: Sequence[int], side: int, classes: int
    ) -> tuple[Images, Int[Tensor, " b"]]:
        """Return pictures as they are, never resampled."""
        if side != SIDE:
            raise BadData(
                f"cifar10 pictures are {SIDE} px, this victim takes {side} px; choose --dataset "
                f"photos or folder, or a {SIDE} px model."
            )
        labels = self.labels(classes)
        images = [as_tensor(self.picture(index)) for index in indices]
        return torch.stack(images), torch.tensor([labels[index] for index in indices])


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


def from_batches(root: Path, split: Split, download: bool) -> Pictures:
    """Read torchvision's layout; it unpickles nothing whose checksum differs from the original."""
    kind = torchvision.datasets.CIFAR10
    try:
        with warnings.catch_warnings():
            # numpy 2.4.0 warns of how pickles of 2009 spell a dtype
            warnings.filterwarnings("ignore", r"dtype\(\): align should be passed as Python")
            data = kind(root, train=split == "train", download=download)
    except (OSError, RuntimeError, HTTPException) as error:
        if download:
            reason = str(getattr(error, "reason", error)).rstrip(".")
            raise BadData(
                f"CIFAR-10 could not be downloaded into '{root}': {reason}. Check the network, or "
                f"unpack cifar-10-python.tar.gz there yourself."
            ) from None
        raise BadData(
            f"'{root / BATCHES}' is incomplete or differs from the original (checksum). "
            "Unpack cifar-10-python.tar.gz there anew, or add --set dataset.download=true."
        ) from None
    return Pictures(data.targets, lambda index: Image.fromarray(data.data[index]))


def from_folder(root: Path, split: Split) -> Pictures:
    """Read class folders, as torchvision's ImageFolder does."""
    folder = root / split if (root / split).is_dir() else root
    if not folder.is_dir():
        raise BadData(f"'{root}' is not a folder. Name one that holds CIFAR-10 with --data-root.")
    if (names := sorted(path.name for path in folder.iterdir() if path.is_dir())) != CLASSES:
        found = ", ".join(names[:12]) or "no folders"
        raise BadData(
            f"'{folder}' is not CIFAR-10: it needs {BATCHES} or the ten class folders "
            f"{', '.join(CLASSES)}; it has {found}. Name another --data-root or add "
            "--set dataset.download=true."
        )
    try:
        samples = torchvision.datasets.ImageFolder(folder).samples
    except FileNotFoundError:
        raise BadData(
            f"'{folder}' has a class folder without pictures. Unpack CIFAR-10 there anew."
        ) from None

    def picture(index: int) -> Image.Image:
        path = samples[index][0]
        image = open_rgb(Path(path), path)
        if image.size != (SIDE, SIDE):
            raise BadData(
                f"'{path}' is {image.width} x {image.height} px, but CIFAR-10 pictures are "
                f"{SIDE} x {SIDE}. Choose --dataset folder for other pictures."
            )
        return image

    return Pictures([label for _, label in samples], picture)
