"""ImageNet-V2 (Recht et al., 2019): a second test set."""

from functools import cached_property
from pathlib import Path
from typing import ClassVar

from privbench.datasets import _tree as tree
from privbench.datasets._classes import wnids
from privbench.datasets._wnids import Natural
from privbench.errors import BadData


class ImageNetV2(Natural):
    """10,000 pictures of 1000 classes, from ROOT/0/ to ROOT/999/, or one folder below."""

    paper: ClassVar[str] = "arXiv:1902.10811"
    title: ClassVar[str] = "ImageNet-V2"

    def wanted(self) -> dict[str, int]:
        """Return folders in the order of their numbers: as words, 10 comes before 2."""
        return {str(label): label for label in range(len(wnids()))}

    @cached_property
    def top(self) -> Path:
        """Return the root, or the one variant inside."""
        root, numbers = tree.root_of(self), set(self.wanted())
        names = tree.folders(root)
        if numbers & set(names):
            return root
        variants = [name for name in names if numbers & set(tree.folders(root / name))]
        if len(variants) > 1:
            raise BadData(
                f"'{root}' has {len(variants)} variants of ImageNet-V2: {', '.join(variants)}. "
                f"Name the folder of one with {tree.options(self)}."
            )
        return root / variants[0] if variants else root
