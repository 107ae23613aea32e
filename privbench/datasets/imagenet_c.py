"""ImageNet-C (Hendrycks and Dietterich, 2019): validation pictures, corrupted, as released."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

from PIL import Image
from pydantic import Field

from privbench.corruption_names import NAMES, TARS
from privbench.datasets import _tree as tree
from privbench.datasets._corruptions import check_corruption, tar_of
from privbench.datasets._wnids import Released
from privbench.errors import BadData

SIDE, INCEPTION = 224, 299
"""Pixels of the release for most models, and of that for Inception."""
SOURCE = "Zenodo record 2235448"


class ImageNetC(Released):
    """Pictures under one corruption at one severity, 224 px, never resized.

    The root holds CORRUPTION/SEVERITY/WNID/, with or without a folder noise, blur, weather,
    digital or extra around each corruption.
    """

    paper: ClassVar[str] = "arXiv:1903.12261"
    title: ClassVar[str] = "a part of ImageNet-C"
    corruption: str = "gaussian_noise"
    """One of the fifteen, or of the four that are for validation."""
    severity: Annotated[int, Field(ge=1, le=5)] = 1

    def __post_init__(self) -> None:
        """Refuse a corruption that nobody released."""
        check_corruption(self.corruption)

    @cached_property
    def top(self) -> Path:
        """Return the folder of the corruption and severity."""
        root = tree.root_of(self)
        if self.corruption not in (found := corruptions(root)):
            inside = (root / name for name in tree.folders(root))
            inner = next((one for one in inside if not found and corruptions(one)), None)
            advice = (
                f"Did you mean '{inner}'?"
                if inner is not None
                else f"Unpack {tar_of(self.corruption)}.tar there ({SOURCE}), or name another "
                f"folder with {tree.options(self)}."
            )
            raise BadData(
                f"'{root}' has no folder {self.corruption}; of the corruptions it has "
                f"{', '.join(found) or 'none'}. {advice}"
            )
        severities = tree.folders(found[self.corruption])
        if str(self.severity) not in severities:
            raise BadData(
                f"'{found[self.corruption]}' has no folder {self.severity} for the severity; it "
                f"has {', '.join(severities[:5]) or 'none'}. Unpack {tar_of(self.corruption)}.tar "
                f"({SOURCE}) there anew."
            )
        return found[self.corruption] / str(self.severity)

    def shown(self, index: int, side: int) -> Image.Image:
        """Return the pixels as released; resizing changes what a corruption does."""
        if side != SIDE:
            raise BadData(
                f"imagenet_c pictures are {SIDE} px and never resized, this victim takes {side} "
                f"px; choose a {SIDE} px model."
            )
        image = self.picture(index)
        if image.size != (SIDE, SIDE):
            kind = " (the variant for Inception)" if INCEPTION in image.size else ""
            raise BadData(
                f"'{self.top / self.files[index][0]}' is {image.width} x {image.height} px{kind}, "
                f"but imagenet_c never resizes. Take the release of {SIDE} px ({SOURCE})."
            )
        return image

    def stored(self) -> Mapping[str, Path]:
        """Return all files, named alike whether or not folders such as `noise` are there."""
        cell = f"{self.corruption}/{self.severity}"
        return {f"{cell}/{name}": path for name, path in super().stored().items()}


def corruptions(root: Path) -> dict[str, Path]:
    """Return the folders of corruptions by name."""
    found: dict[str, Path] = {}
    for place in (root, *(root / tar for tar in TARS)):
        if place.is_dir():
            there = tree.folders(place)
            found |= {n: place / n for n in NAMES if n in there and n not in found}
    return found
