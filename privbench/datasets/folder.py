"""The user's own pictures, from a folder."""

import csv
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from privbench.dataset import Dataset
from privbench.datasets._pictures import EXTENSIONS, as_tensor, check_indices, open_rgb, square
from privbench.errors import BadData, BadSetting
from privbench.threat import Images

TABLE = "labels.csv"
LABEL_COLUMNS = ("label", "imagenet1k_index")


class Folder(Dataset):
    """Any pictures below --data-root, sorted by path.

    Labels come from `labels.csv` (columns `file` and `label` or `imagenet1k_index`), else from
    one level of class subfolders, else pictures are unlabelled. Hidden files are left out.
    """

    @cached_property
    def files(self) -> list[PurePosixPath]:
        """Pictures, relative to the root."""
        if self.root is None:
            raise BadSetting("folder needs --data-root PATH, a folder with your pictures.")
        if not self.root.is_dir():
            raise BadData(f"'{self.root}' is not a folder. Name one with --data-root PATH.")
        found = [
            path.relative_to(self.root)
            for path in self.root.rglob("*")
            if path.suffix.lower() in EXTENSIONS and path.is_file()
        ]
        found = [path for path in found if not any(part[0] == "." for part in path.parts)]
        if not found:
            raise BadData(
                f"'{self.root}' holds no pictures ({' '.join(EXTENSIONS)}). "
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
        return open_rgb(path, str(path))

    def labelled(self) -> bool:
        """Say whether there is a table, or class folders."""
        return (Path(self.root or ".") / TABLE).is_file() or bool(self.class_names())

    def class_names(self) -> list[str]:
        """Return the names of the class folders; none where a table or nothing gives labels."""
        table = Path(self.root or ".") / TABLE
        if table.is_file() or any(len(path.parts) != 2 for path in self.files):
            return []
        return sorted({path.parts[0] for path in self.files})

    def stored(self) -> Mapping[str, Path]:
        """Return all files."""
        return {str(path): Path(self.root or ".") / path for path in self.files}

    def load(
        self, indices: Sequence[int], side: int, classes: int
    ) -> tuple[Images, Int[Tensor, " b"]]:
        """Return center crops and labels."""
        check_indices("folder", indices, len(self))
        labels = self.labels(classes)
        pictures = [as_tensor(square(self.picture(index), side)) for index in indices]
        return torch.stack(pictures), torch.tensor([labels[index] for index in indices])

    def labels(self, classes: int) -> list[int]:
        """Return the label of every picture, checked against the number of classes."""
        table = Path(self.root or ".") / TABLE
        if table.is_file():
            return listed(table, self.files, classes)
        if not (names := self.class_names()):
            return [index % classes for index in range(len(self))]
        if len(names) > classes:
            raise BadData(
                f"'{self.root}' has {len(names)} class folders, but this victim knows {classes} "
                "classes. Take folders away or choose a victim with more classes."
            )
        return [names.index(path.parts[0]) for path in self.files]


def listed(table: Path, pictures: Sequence[PurePosixPath], classes: int) -> list[int]:
    """Labels from a table with exactly one row per picture."""
    labels: dict[PurePosixPath, int] = {}
    known = set(pictures)
    for number, file, label in rows(table):
        where = f"'{table}', line {number}:"
        if (path := PurePosixPath(file)) not in known:
            raise BadData(f"{where} there is no picture '{file}' in the folder. Remove the row.")
        if path in labels:
            raise BadData(f"{where} '{file}' has a row already. Keep one of them.")
        try:
            labels[path] = int(label)
        except ValueError:
            raise BadData(
                f"{where} '{label}' is not a whole number. Write the class index of '{file}'."
            ) from None
        if not 0 <= labels[path] < classes:
            raise BadData(
                f"{where} '{file}' has label {label}, but this victim knows classes 0 to "
                f"{classes - 1}. Correct the row or choose a victim with more classes."
            )
    if missing := [path for path in pictures if path not in labels]:
        raise BadData(f"'{table}' has no row for '{missing[0]}'. Add one or remove the picture.")
    return [labels[path] for path in pictures]


def rows(table: Path) -> list[tuple[int, str, str]]:
    """Line number, file and label of each row."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, skipinitialspace=True)
            columns = reader.fieldnames or ()
            label = next((name for name in LABEL_COLUMNS if name in columns), None)
            if "file" not in columns or label is None:
                missing = "file" if "file" not in columns else "label"
                raise BadData(
                    f"'{table}' has no column '{missing}'. Its first line must name the columns "
                    "'file' and 'label' (or 'imagenet1k_index'), separated by a comma."
                )
            return [(reader.line_num, row["file"] or "", row[label] or "") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error):
        raise BadData(f"'{table}' is not readable as a CSV table in UTF-8. Save it anew.") from None
