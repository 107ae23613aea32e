"""The user's own pictures, from a folder."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Int
from PIL import Image
from pydantic import Field
from torch import Tensor

from privbench.dataset import ANY, Dataset
from privbench.datasets._classes import wnids
from privbench.datasets._pictures import (
    EXTENSIONS,
    Interpolation,
    as_tensor,
    check_indices,
    cropped,
    open_rgb,
    refuse_unread,
    square,
)
from privbench.errors import BadData, BadSetting
from privbench.threat import Images

TABLE = "labels.csv"
IMAGENET = "imagenet1k_index"
NAMES = ("wnid", "class", "name")
"""Columns with a class's name."""
LABEL_COLUMNS = ("label", IMAGENET, *NAMES)
"""The first of them that is there counts."""
SPLITS = {"train", "training", "val", "valid", "validation", "test"}


class Folder(Dataset):
    """Any pictures below --data-root, sorted by path.

    Labels come from `labels.csv` (columns `file` and `label` or `imagenet1k_index`, a number, or
    `wnid`, `class` or `name`), else from class folders, else pictures are unlabelled. Class
    folders are found among a model's classes by name or WordNet id. Hidden files are left out,
    EXIF turns pictures upright, and of a file of several frames the first is shown.
    """

    version: ClassVar[int] = 2
    crop: Annotated[float, Field(gt=0.1, le=1)] | None = None
    """Share of the short side that is kept; all, unless `eval` finds that the model has its own."""
    interpolation: Interpolation = "bicubic"
    """How pictures are resized."""
    among: Literal["all", "folders"] = "all"
    """What a model's answer is chosen among: all its classes, or those that have a folder here."""

    @cached_property
    def files(self) -> list[PurePosixPath]:
        """Pictures, relative to the root."""
        if self.root is None:
            raise BadSetting("folder needs --data-root PATH, a folder with your pictures.")
        if not self.root.is_dir():
            raise BadData(f"'{self.root}' is not a folder. Name one with --data-root PATH.")
        there = [path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file()]
        there = [path for path in there if not any(part[0] == "." for part in path.parts)]
        refuse_unread(self.root, [str(path) for path in sorted(there)])
        found = [path for path in there if path.suffix.lower() in EXTENSIONS]
        if not found:
            kinds = Counter(path.suffix.lower() or "without suffix" for path in there)
            has = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(3))
            but = f" but files {has}" if has else ""
            raise BadData(
                f"'{self.root}' holds no pictures ({' '.join(EXTENSIONS)}){but}. "
                "Name another folder with --data-root PATH."
            )
        return [PurePosixPath(path) for path in sorted(found, key=lambda path: path.parts)]

    def __len__(self) -> int:
        """Count the pictures."""
        return len(self.files)

    def picture(self, index: int) -> Image.Image:
        """Return a picture at its full size."""
        check_indices("folder", [index], len(self))
        path = Path(self.root or ".") / self.files[index]
        return open_rgb(path, str(path), upright=True)

    def labelled(self) -> bool:
        """Say whether there is a table, or class folders; raises BadData one level too high."""
        splits = {path.parts[0] for path in self.files}
        if splits <= SPLITS and all(len(path.parts) > 2 for path in self.files):
            below = Path(self.root or ".") / max(splits & {"train"} or splits)
            raise BadData(
                f"'{self.root}' holds {' and '.join(sorted(splits))}, each with class folders. "
                f"Name one of them, such as --data-root '{below}'."
            )
        return (Path(self.root or ".") / TABLE).is_file() or bool(self.class_names())

    def class_names(self) -> list[str]:
        """Return the class folders, or the classes of a table; none where it has numbers only."""
        if self.table is not None:
            if self.table[0] == IMAGENET:
                return wnids()
            return sorted({name for _, _, name in self.table[1]}) if self.table[0] in NAMES else []
        if any(len(path.parts) == 1 for path in self.files):
            return []
        return sorted({path.parts[0] for path in self.files})

    def stored(self) -> Mapping[str, Path]:
        """Return all files."""
        return {str(path): Path(self.root or ".") / path for path in self.files}

    @cached_property
    def table(self) -> tuple[str, list[tuple[int, str, str]]] | None:
        """Return the column of labels and the rows of labels.csv, if there is one."""
        table = Path(self.root or ".") / TABLE
        return rows(table) if table.is_file() else None

    def columns(self) -> list[int] | None:
        """Return the labels that occur, where only these are to be answers."""
        return sorted(set(self.labels(ANY))) if self.among == "folders" else None

    def load(
        self, indices: Sequence[int], side: int, classes: int
    ) -> tuple[Images, Int[Tensor, " b"]]:
        """Return center crops and labels."""
        check_indices("folder", indices, len(self))
        labels = self.labels(classes)
        pictures = [as_tensor(self._shown(index, side)) for index in indices]
        return torch.stack(pictures), torch.tensor([labels[index] for index in indices])

    def _shown(self, index: int, side: int) -> Image.Image:
        crop = self.usual_crop if self.crop is None else self.crop
        if crop == 1 and self.interpolation == "bicubic":
            return square(self.picture(index), side)
        return cropped(self.picture(index), side, crop, self.interpolation)

    def labels(self, classes: int) -> list[int]:
        """Return the label of every picture, checked against the number of classes."""
        if self.table is not None:
            table = Path(self.root or ".") / TABLE
            known = self.class_names() if self.table[0] in NAMES else []
            return listed(table, self.table[1], self.files, classes, known)
        if not (names := self.class_names()):
            return [index % classes for index in range(len(self))]
        if len(names) > classes:
            raise BadData(
                f"'{self.root}' has {len(names)} class folders, but this victim knows {classes} "
                "classes. Take folders away or choose a victim with more classes."
            )
        return [names.index(path.parts[0]) for path in self.files]


def listed(
    table: Path,
    lines: Sequence[tuple[int, str, str]],
    pictures: Sequence[PurePosixPath],
    classes: int,
    names: Sequence[str] = (),
) -> list[int]:
    """Labels from a table with exactly one row per picture; a name's is its place among names."""
    labels: dict[PurePosixPath, int] = {}
    known = set(pictures)
    for number, file, label in lines:
        where = f"'{table}', line {number}:"
        if (path := PurePosixPath(file)) not in known:
            raise BadData(f"{where} there is no picture '{file}' in the folder. Remove the row.")
        if path in labels:
            raise BadData(f"{where} '{file}' has a row already. Keep one of them.")
        try:
            if names and not label:
                raise ValueError
            labels[path] = names.index(label) if names else int(label)
        except ValueError:
            kind = "name" if names else "whole number"
            raise BadData(
                f"{where} '{label}' is not a {kind}. Write the class of '{file}': a number in a "
                "column 'label', a name in a column 'class'."
            ) from None
        if not 0 <= labels[path] < classes:
            raise BadData(
                f"{where} '{file}' has label {label}, but this victim knows classes 0 to "
                f"{classes - 1}. Correct the row or choose a victim with more classes."
            )
    if missing := [path for path in pictures if path not in labels]:
        raise BadData(f"'{table}' has no row for '{missing[0]}'. Add one or remove the picture.")
    return [labels[path] for path in pictures]


def rows(table: Path) -> tuple[str, list[tuple[int, str, str]]]:
    """Return the column of labels, and line number, file and label of each row."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, skipinitialspace=True)
            columns = reader.fieldnames or ()
            label = next((name for name in LABEL_COLUMNS if name in columns), None)
            if "file" not in columns or label is None:
                missing = "file" if "file" not in columns else "label"
                raise BadData(
                    f"'{table}' has no column '{missing}'. Its first line must name the columns "
                    "'file' and 'label' (or 'imagenet1k_index'; 'class' for names), separated by "
                    "a comma."
                )
            found = [(reader.line_num, row["file"] or "", row[label] or "") for row in reader]
            return label, found
    except (OSError, UnicodeDecodeError, csv.Error):
        raise BadData(f"'{table}' is not readable as a CSV table in UTF-8. Save it anew.") from None
