"""What data sets of 32 px share: their pictures are shown as they are, never resampled."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torchvision
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from privbench.dataset import Dataset
from privbench.datasets import _tree as tree
from privbench.datasets._pictures import as_tensor, check_indices, open_rgb
from privbench.errors import BadData
from privbench.threat import Images

SIDE = 32
"""Pixels."""
CIFAR10_CLASSES = [
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
]
"""Those of CIFAR-10 and of CIFAR-10-C."""

Split = Literal["test", "train"]


@dataclass(frozen=True)
class Pictures:
    """Labels at hand; a picture is decoded when it is asked for."""

    labels: Sequence[int]
    picture: Callable[[int], Image.Image]
    files: Mapping[str, Path] = field(default_factory=dict)
    """What holds them, by names that say nothing of the user's place."""
    labelled: bool = True


class Small(Dataset):
    """Pictures of 32 px."""

    names: ClassVar[Sequence[str]]
    """The classes, by label."""
    standard_order: ClassVar[bool] = True
    instead: ClassVar[str] = ""
    """What else to choose for another victim."""

    @abstractmethod
    def find(self) -> Pictures:
        """Open what the settings name; raises BadData or BadSetting."""

    @cached_property
    def pictures(self) -> Pictures:
        """Open it once."""
        return self.find()

    def __len__(self) -> int:
        """Count the pictures."""
        return len(self.pictures.labels)

    def picture(self, index: int) -> Image.Image:
        """Return a picture of 32 px."""
        check_indices(tree.name_of(self), [index], len(self))
        return self.pictures.picture(index)

    def class_names(self) -> list[str]:
        """Return the names in their usual order."""
        return list(self.names) if self.labelled() else []

    def labelled(self) -> bool:
        """Say whether anything tells the classes."""
        return self.pictures.labelled

    def stored(self) -> Mapping[str, Path]:
        """Return the files."""
        return self.pictures.files

    def labels(self, classes: int) -> list[int]:
        """Return the usual labels; refuse a victim that lacks some of them."""
        if classes < len(self.names):
            raise BadData(
                f"{tree.name_of(self)} has {len(self.names)} classes, this victim knows {classes}; "
                f"choose {self.instead}a model with at least {len(self.names)} classes."
            )
        return list(self.pictures.labels)

    def load(
        self, indices: Sequence[int], side: int, classes: int
    ) -> tuple[Images, Int[Tensor, " b"]]:
        """Return pictures as they are."""
        if side != SIDE:
            raise BadData(
                f"{tree.name_of(self)} pictures are {SIDE} px, this victim takes {side} px; choose "
                f"{self.instead}a {SIDE} px model."
            )
        labels = self.labels(classes)
        images = [as_tensor(self.picture(index)) for index in indices]
        return torch.stack(images), torch.tensor([labels[index] for index in indices])


class Downloadable(Small):
    """Pictures of 32 px from torchvision's layout, class folders, or side by side in a folder."""

    split: Split = "test"
    download: bool = False
    """Let torchvision put what is missing into the root."""

    title: ClassVar[str]

    @abstractmethod
    def original(self) -> str:
        """Return the file or folder that is unpacked from the released archive."""

    @abstractmethod
    def read(self, root: Path) -> Pictures:
        """Read the original."""

    def find(self) -> Pictures:
        """Open the original, or a folder of pictures."""
        root = self.root if self.download and self.root is not None else tree.root_of(self)
        if self.download or (root / self.original()).exists():
            return self.read(root)
        top = root / self.split if (root / self.split).is_dir() else root
        found = tree.folders(top)
        if found == sorted(self.names):
            return in_class_folders(self.title, top, self.names)
        if not found and (flat := tree.pictures(top)):
            return _pictures(self.title, top, flat, [i % len(self.names) for i in range(len(flat))])
        raise BadData(
            f"'{top}' is not {self.title}: it needs {self.original()}, or the class folders "
            f"{self.names[0]} to {self.names[-1]}, or pictures side by side; it has "
            f"{tree.some(found) or 'nothing of these'}. Name another folder with "
            f"{tree.options(self)}, or add --set dataset.download=true."
        )


def in_class_folders(title: str, top: Path, names: Sequence[str]) -> Pictures:
    """Open pictures in class folders, by label and then by name."""
    files = tree.walk(top, {name: label for label, name in enumerate(names)})
    return _pictures(title, top, [name for name, _ in files], [label for _, label in files], True)


def _pictures(
    title: str, top: Path, files: Sequence[str], labels: Sequence[int], labelled: bool = False
) -> Pictures:
    def picture(index: int) -> Image.Image:
        path = top / files[index]
        image = open_rgb(path, str(path))
        if image.size != (SIDE, SIDE):
            raise BadData(
                f"'{path}' is {image.width} x {image.height} px, but {title} pictures are "
                f"{SIDE} x {SIDE}. Choose --dataset folder for other pictures."
            )
        return image

    return Pictures(labels, picture, {name: top / name for name in files}, labelled)


def from_batches(
    kind: type[torchvision.datasets.CIFAR10], title: str, root: Path, split: Split, download: bool
) -> Pictures:
    """Read torchvision's layout; it unpickles nothing whose checksum differs from the original."""
    place, archive = root / kind.base_folder, kind.filename
    with original_or_refuse(title, place, f"unpack {archive} there", download):
        data = kind(str(root), train=split == "train", download=download)
    lists = kind.train_list if split == "train" else kind.test_list
    files = {entry[0]: place / entry[0] for entry in lists}
    return Pictures(data.targets, lambda index: Image.fromarray(data.data[index]), files)


@contextmanager
def original_or_refuse(title: str, place: Path, remedy: str, download: bool) -> Iterator[None]:
    """Turn what torchvision raises about released files into one sentence."""
    try:
        with warnings.catch_warnings():
            # numpy 2.4.0 warns of how pickles of 2009 spell a dtype
            warnings.filterwarnings("ignore", r"dtype\(\): align should be passed as Python")
            yield
    except (OSError, RuntimeError, HTTPException) as error:
        if download:
            reason = str(getattr(error, "reason", error)).rstrip(".")
            raise BadData(
                f"{title} could not be downloaded into '{place.parent}': {reason}. Check the "
                f"network, or {remedy} yourself."
            ) from None
        raise BadData(
            f"'{place}' is incomplete or differs from the original (checksum). "
            f"{remedy[0].upper()}{remedy[1:]} anew, or add --set dataset.download=true."
        ) from None
