"""Photographs that scikit-image carries inside its package; nothing is downloaded."""

from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from privbench.dataset import Dataset
from privbench.datasets._pictures import as_tensor, check_indices, open_rgb, square
from privbench.errors import BadData, BadSetting
from privbench.threat import Images


class Photo(NamedTuple):
    """One file and its terms, as scikit-image documents them."""

    file: str
    license: str
    source: str


PHOTOS = (
    Photo("astronaut.png", "public domain", "NASA Great Images, portrait of Eileen Collins"),
    Photo("coffee.png", "CC0", "Rachel Michetti, courtesy of Pikolo Espresso Bar"),
    Photo("chelsea.png", "CC0", "Stefan van der Walt, Chelsea the cat"),
    Photo("rocket.jpg", "public domain", "SpaceX Photos, Falcon 9 with DSCOVR"),
    Photo("hubble_deep_field.jpg", "public domain", "NASA, HubbleSite, release 2012-37"),
    Photo("retina.jpg", "CC0", "Mikael Häggström, Wikimedia Commons"),
    Photo("ihc.png", "no known restrictions", "CMMI, stained colonic glands"),
    # gray from here on
    Photo("camera.png", "CC0", "Lav Varshney"),
    Photo("coins.png", "no known restrictions", "Brooklyn Museum, Greek coins from Pompeii"),
    Photo("brick.png", "CC0", "CC0Textures, Bricks25"),
    Photo("grass.png", "CC0", "linolafett at DeviantArt, Grass-01"),
    Photo("gravel.png", "CC0", "CC0Textures, Gravel04"),
)


class Photos(Dataset):
    """Freely licensed photographs, 7 in color and 5 in gray, at any size; unlabelled."""

    def __len__(self) -> int:
        """Return how many photographs the table lists."""
        return len(PHOTOS)

    def picture(self, index: int) -> Image.Image:
        """Return a photograph at its full size."""
        check_indices("photos", [index], len(self))
        return read(PHOTOS[index].file)

    def labels(self, classes: int) -> list[int]:
        """Return the index modulo the number of classes."""
        return [index % classes for index in range(len(self))]

    def labelled(self) -> bool:
        """Photographs have no classes."""
        return False

    def load(
        self, indices: Sequence[int], side: int, classes: int
    ) -> tuple[Images, Int[Tensor, " b"]]:
        """Return center crops."""
        if self.root is not None:
            raise BadSetting(
                "photos comes with scikit-image and reads no folder. Leave --data-root out, or "
                "choose --dataset folder for your own pictures."
            )
        check_indices("photos", indices, len(self))
        pictures = [as_tensor(square(self.picture(index), side)) for index in indices]
        labels = self.labels(classes)
        return torch.stack(pictures), torch.tensor([labels[index] for index in indices])


def read(name: str) -> Image.Image:
    """Read a file of the installed package, past `skimage.data`, which would download."""
    path = files("skimage") / "data" / name
    if not path.is_file():
        raise BadData(f"This scikit-image lacks '{name}'. Install scikit-image 0.25 or 0.26.")
    return open_rgb(path, name)
