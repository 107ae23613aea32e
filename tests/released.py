"""Small folders laid out as the released data sets are, with the right names in them."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from privbench.datasets._classes import Part, columns, wnids
from privbench.datasets.cifar100 import NAMES

BLANK = (16, 12)
"""Size of pictures that nobody looks at."""
KINDS = 7


def picture(path: Path, size: tuple[int, int] = BLANK, seed: int = 0) -> Path:
    """Save noise; size is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise(size, seed).save(path, quality=95)
    return path


def noise(size: tuple[int, int], seed: int) -> Image.Image:
    """Return random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def tree(root: Path, folders: Iterable[str], size: tuple[int, int] = BLANK, seed: int = 0) -> Path:
    """Make class folders; they are links to a few folders with a picture each, for speed."""
    return linked(root, folders, [noise(size, seed + kind) for kind in range(KINDS)])


def linked(root: Path, folders: Iterable[str], pictures: list[Image.Image]) -> Path:
    """Make class folders that show these pictures in turn, each under the name one.JPEG."""
    root.mkdir(parents=True, exist_ok=True)
    for kind, image in enumerate(pictures):
        (root / f".{kind}").mkdir()
        image.save(root / f".{kind}" / "one.JPEG", quality=95, subsampling=0)
    for place, folder in enumerate(folders):
        (root / folder).symlink_to(f".{place % len(pictures)}", target_is_directory=True)
    return root


def part(letter: Part) -> list[str]:
    """Return the 200 class folders of ImageNet-A, -O or -R."""
    return [wnids()[column] for column in columns(letter)]


def imagenet(root: Path, size: tuple[int, int] = BLANK) -> Path:
    """Make validation pictures of all 1000 classes."""
    return tree(root, wnids(), size)


def cell(root: Path, corruption: str, severity: int, side: int = 224) -> Path:
    """Make one corruption and severity of ImageNet-C."""
    tree(root / corruption / str(severity), wnids(), (side, side))
    return root


def cifar10_c(root: Path, corruption: str = "fog", count: int = 4) -> Path:
    """Make the arrays of one corruption of CIFAR-10-C: count pictures at five severities."""
    root.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(5).integers(0, 256, (5 * count, 32, 32, 3), dtype=np.uint8)
    np.save(root / f"{corruption}.npy", pixels)
    np.save(root / "labels.npy", np.tile(np.arange(count, dtype=np.uint8) % 10, 5))
    return root


def prepared(name: str, root: Path) -> tuple[dict[str, object], int, int]:
    """Return settings of a data set whose folder is made here, its side and its classes."""
    settings: dict[str, object] = {"root": root}
    if name == "imagenet":
        imagenet(root / "val")
    elif name == "imagenet_c":
        cell(root / "noise", "gaussian_noise", 1)
    elif name in ("imagenet_sketch", "imagenet_v2"):
        folders = [str(label) for label in range(1000)] if name == "imagenet_v2" else wnids()
        tree(root, folders)
    elif name == "cifar10_c":
        cifar10_c(root, "gaussian_noise")
    elif name in ("cifar100", "svhn"):
        folders = NAMES.split() if name == "cifar100" else [str(digit) for digit in range(10)]
        for place, folder in enumerate(folders):
            picture(root / folder / "0.png", (32, 32), place)
    elif name.startswith("imagenet_"):
        letters: dict[str, Part] = {"imagenet_a": "a", "imagenet_o": "o", "imagenet_r": "r"}
        tree(root, part(letters[name]))
    else:
        return {}, 32, 10
    if name.startswith("imagenet"):
        return settings, 224, 1000
    return settings, 32, 100 if name == "cifar100" else 10
