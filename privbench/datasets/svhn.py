"""SVHN (Netzer et al., 2011): house numbers, the user's copy."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torchvision
from PIL import Image

from privbench.datasets._small import Downloadable, Pictures, original_or_refuse


class SVHN(Downloadable):
    """SVHN's cropped digits, 32 px.

    The root holds torchvision's `test_32x32.mat`, or class folders 0 to 9, or pictures side by
    side, if wanted inside a folder `test` or `train`.
    """

    title: ClassVar[str] = "SVHN"
    names: ClassVar[Sequence[str]] = [str(digit) for digit in range(10)]

    def original(self) -> str:
        """Return the name of the released file."""
        return torchvision.datasets.SVHN.split_list[self.split][1]

    def read(self, root: Path) -> Pictures:
        """Read the released file, after torchvision has checked its checksum."""
        place = root / self.original()
        with original_or_refuse(self.title, place, f"put {place.name} there", self.download):
            data = torchvision.datasets.SVHN(str(root), self.split, download=self.download)

        def picture(index: int) -> Image.Image:
            return Image.fromarray(data.data[index].transpose(1, 2, 0))

        return Pictures(data.labels.tolist(), picture, {place.name: place})
