"""CIFAR-100 (Krizhevsky, 2009): the user's copy."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torchvision

from privbench.datasets._small import Downloadable, Pictures, from_batches

NAMES = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus "
    "butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch "
    "crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo "
    "keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse "
    "mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy "
    "porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
    "snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television "
    "tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)


class CIFAR100(Downloadable):
    """CIFAR-100, 32 px.

    The root holds torchvision's `cifar-100-python`, or 100 class folders, or pictures side by
    side, if wanted inside a folder `test` or `train`.
    """

    title: ClassVar[str] = "CIFAR-100"
    names: ClassVar[Sequence[str]] = NAMES.split()

    def original(self) -> str:
        """Return the folder of the released archive."""
        return torchvision.datasets.CIFAR100.base_folder

    def read(self, root: Path) -> Pictures:
        """Read the released files."""
        kind = torchvision.datasets.CIFAR100
        return from_batches(kind, self.title, root, self.split, self.download)
