"""Pictures for models of ImageNet-1k, in one folder for each class."""

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from jaxtyping import Int
from PIL import Image
from pydantic import Field
from torch import Tensor

from privbench.dataset import Dataset
from privbench.datasets import _tree as tree
from privbench.datasets._classes import columns, wnids
from privbench.datasets._pictures import (
    Interpolation,
    as_tensor,
    check_indices,
    cropped,
    open_rgb,
)
from privbench.errors import BadData
from privbench.threat import Images


class Released(Dataset):
    """Pictures in class folders, each labelled with its class's number in a 1000-way head."""

    standard_order: ClassVar[bool] = True
    title: ClassVar[str]
    within: ClassVar[tuple[str, ...]] = ()
    """Folders of the root that may hold the class folders."""

    def wanted(self) -> dict[str, int]:
        """Return the class folders that must be there, by label."""
        return {wnid: label for label, wnid in enumerate(wnids())}

    def tolerated(self) -> Collection[str]:
        """Return the class folders that may be there."""
        return self.wanted()

    @cached_property
    def top(self) -> Path:
        """Return the folder that holds the class folders."""
        root = tree.root_of(self)
        inside = (root / name for name in self.within)
        return next((folder for folder in inside if folder.is_dir()), root)

    @cached_property
    def files(self) -> list[tuple[str, int]]:
        """Return FOLDER/FILE and label of all pictures, by label and then by name."""
        self._check(set(tree.folders(self.top)))
        return tree.walk(self.top, self.wanted())

    def __len__(self) -> int:
        """Count the pictures."""
        return len(self.files)

    def picture(self, index: int) -> Image.Image:
        """Return a picture at its full size."""
        check_indices(tree.name_of(self), [index], len(self))
        path = self.top / self.files[index][0]
        return open_rgb(path, str(path))

    @abstractmethod
    def shown(self, index: int, side: int) -> Image.Image:
        """Return a picture as a model of that side takes it."""

    def class_names(self) -> list[str]:
        """Return the WordNet ids of all 1000 classes."""
        return wnids()

    def stored(self) -> Mapping[str, Path]:
        """Return all files."""
        return {name: self.top / name for name, _ in self.files}

    def labels(self, classes: int) -> list[int]:
        """Return labels 0 to 999; a head of another size counts its classes otherwise."""
        if classes != len(wnids()):
            raise BadData(
                f"{tree.name_of(self)} is labelled by the 1000 classes of ImageNet-1k, this "
                f"victim knows {classes}; choose a model with a head for these 1000 classes."
            )
        return [label for _, label in self.files]

    def load(
        self, indices: Sequence[int], side: int, classes: int
    ) -> tuple[Images, Int[Tensor, " b"]]:
        """Return pictures as a model takes them, and labels."""
        check_indices(tree.name_of(self), indices, len(self))
        labels = self.labels(classes)
        images = [as_tensor(self.shown(index, side)) for index in indices]
        return torch.stack(images), torch.tensor([labels[index] for index in indices])

    def _check(self, found: set[str]) -> None:
        """Refuse a folder with too few classes or with others: labels would be guesswork."""
        wanted = self.wanted()
        missing = [name for name in wanted if name not in found]
        foreign = sorted(found - set(self.tolerated()))
        faults = []
        if missing:
            lacks = f"{len(missing)} of its {len(wanted)} class folders"
            faults.append(f"it lacks {lacks}: {tree.some(missing)}")
        if foreign:
            what = "folders that do" if len(foreign) > 1 else "folder that does"
            faults.append(f"it has {len(foreign)} {what} not belong there: {tree.some(foreign)}")
        if faults:
            advice = self._advice(found, wanted)
            raise BadData(f"'{self.top}' is not {self.title}: {'; '.join(faults)}. {advice}")

    def _advice(self, found: set[str], wanted: Collection[str]) -> str:
        """Return the nearest right thing to do."""
        if not found & set(wanted):
            if (inner := tree.deeper(self.top, wanted)) is not None:
                return f"Did you mean '{inner}'?"
            if tree.pictures(self.top):
                return "Its pictures lie side by side; sort them into class folders first."
        for part in ("a", "o", "r"):
            if found == {wnids()[column] for column in columns(part)}:
                return f"These are the classes of imagenet_{part}: name it there."
        if found and found < set(wnids()):
            folder = f"--dataset folder --data-root '{self.top}'"
            return f"A part of the classes is measured with `{folder}`."
        return f"Unpack it anew, or name another folder with {tree.options(self)}."


class Natural(Released):
    """Pictures of any size: short side to 256 px for a victim of 224 px, then a center crop.

    Pixels are taken as stored: EXIF turns nothing, as in published accuracies.
    """

    usual_crop: ClassVar[float] = 0.875
    interpolation: Interpolation = "bicubic"
    """How pictures are resized; it moves accuracy by tenths of a percent."""
    crop: Annotated[float, Field(gt=0.1, le=1)] | None = None
    """Share of the short side that is kept; 0.875 unless the model has a crop of its own."""

    def shown(self, index: int, side: int) -> Image.Image:
        """Resize the short side to 8/7 of what the victim takes and cut out the center."""
        crop = self.usual_crop if self.crop is None else self.crop
        return cropped(self.picture(index), side, crop, self.interpolation)
