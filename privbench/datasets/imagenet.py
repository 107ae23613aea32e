"""ImageNet-1k (Russakovsky et al., 2015): the user's copy of the validation pictures."""

from collections.abc import Collection
from typing import ClassVar, Literal

from privbench.datasets._classes import columns, wnids
from privbench.datasets._wnids import Natural


class ImageNet(Natural):
    """Validation pictures of ImageNet-1k, from ROOT/val/WNID/ or ROOT/WNID/."""

    paper: ClassVar[str] = "arXiv:1409.0575"
    title: ClassVar[str] = "ImageNet-1k"
    within: ClassVar[tuple[str, ...]] = ("val",)
    part: Literal["all", "a", "o", "r"] = "all"
    """Only the 200 classes of ImageNet-A, -O or -R, to compare with these."""

    def wanted(self) -> dict[str, int]:
        """Return the class folders of the part."""
        chosen = self.columns()
        return {w: i for i, w in enumerate(wnids()) if chosen is None or i in chosen}

    def tolerated(self) -> Collection[str]:
        """Return all classes: a part is left as it lies."""
        return wnids()

    def columns(self) -> list[int] | None:
        """Return the labels of the part."""
        return None if self.part == "all" else columns(self.part)
