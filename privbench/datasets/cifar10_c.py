"""CIFAR-10-C (Hendrycks and Dietterich, 2019): test pictures, corrupted, as released."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from privbench.corruption_names import NAMES, SEVERITIES
from privbench.datasets import _tree as tree
from privbench.datasets._corruptions import check_corruption
from privbench.datasets._small import CIFAR10_CLASSES, SIDE, Pictures, Small
from privbench.errors import BadData

LABELS = "labels.npy"
RELEASED = 10_000
"""Pictures of one severity."""
REMEDY = "Unpack CIFAR-10-C.tar (Zenodo record 2535967) there anew."


class CIFAR10C(Small):
    """Test pictures under one corruption at one severity, from CORRUPTION.npy and labels.npy."""

    paper: ClassVar[str] = "arXiv:1903.12261"
    names: ClassVar[Sequence[str]] = CIFAR10_CLASSES
    corruption: str = "gaussian_noise"
    """One of the fifteen, or of the four that are for validation."""
    severity: Annotated[int, Field(ge=1, le=len(SEVERITIES))] = 1

    def __post_init__(self) -> None:
        """Refuse a corruption that nobody released."""
        check_corruption(self.corruption)

    def find(self) -> Pictures:
        """Open both arrays: the severities follow one another, each with all test pictures."""
        root = tree.root_of(self)
        files = [root / f"{self.corruption}.npy", root / LABELS]
        if missing := next((path for path in files if not path.is_file()), None):
            raise BadData(f"'{root}' has no {missing.name}{self._found(root)}")
        pixels, labels = map(opened, files)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (SIDE, SIDE, 3):
            raise BadData(
                f"'{files[0]}' holds {pixels.dtype} of shape {pixels.shape}, not uint8 of shape "
                f"(n, {SIDE}, {SIDE}, 3). {REMEDY}"
            )
        count, rest = divmod(len(pixels), len(SEVERITIES))
        if rest or not count:
            raise BadData(
                f"'{files[0]}' holds {len(pixels)} pictures, which do not make {len(SEVERITIES)} "
                f"severities of equal size. {REMEDY}"
            )
        if labels.shape != pixels.shape[:1] or labels.dtype.kind not in "iu":
            raise BadData(
                f"'{files[1]}' holds {labels.dtype} of shape {labels.shape}, but {files[0].name} "
                f"needs {len(pixels)} whole numbers. {REMEDY}"
            )
        if not 0 <= labels.min() <= labels.max() < len(CIFAR10_CLASSES):
            raise BadData(
                f"'{files[1]}' has labels from {labels.min()} to {labels.max()}, not 0 to "
                f"{len(CIFAR10_CLASSES) - 1}. {REMEDY}"
            )
        if (
            len(pixels) == RELEASED
            or (labels.reshape(len(SEVERITIES), count) != labels[:count]).any()
        ):
            raise BadData(
                f"'{files[0]}' holds {len(pixels):,} pictures whose labels do not come "
                f"{len(SEVERITIES)} times over, as of one severity alone; which one, nothing says. "
                f"{REMEDY}"
            )
        first = (self.severity - 1) * count

        def picture(index: int) -> Image.Image:
            return Image.fromarray(np.array(pixels[first + index]))

        mine = labels[first : first + count].tolist()
        return Pictures(mine, picture, {path.name: path for path in files})

    def listing(self) -> str:
        """Return names and sizes of the arrays, and which rows these are."""
        return f"{super().listing()}\nseverity {self.severity}"

    def _found(self, root: Path) -> str:
        known = {f"{name}.npy" for name in NAMES}
        if (root / "CIFAR-10-C").is_dir():
            return f". Did you mean '{root / 'CIFAR-10-C'}'?"
        there = [path.stem for path in sorted(root.glob("*.npy")) if path.name in known]
        return (
            f"; of the corruptions it has {', '.join(there) or 'none'}. Unpack CIFAR-10-C.tar "
            f"there, or name another folder with {tree.options(self)}."
        )


def opened(path: Path) -> NDArray[Any]:
    """Open an array without reading it; one of pickled objects is refused."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise BadData(
            f"'{path}' is truncated or not an array in NumPy's format. {REMEDY}"
        ) from None
    if not isinstance(found, np.ndarray):
        found.close()
        raise BadData(f"'{path}' is an archive of arrays, not one array. {REMEDY}")
    return found
