"""Pictures for 200 of the 1000 classes of ImageNet-1k."""

from typing import ClassVar

from privbench.datasets._classes import Part, columns, wnids
from privbench.datasets._wnids import Natural


class Subset(Natural):
    """Pictures of 200 class folders; a model's answer is chosen among these classes."""

    part: ClassVar[Part]

    def wanted(self) -> dict[str, int]:
        """Return the 200 class folders, labelled by their place among the 1000."""
        return {wnids()[label]: label for label in columns(self.part)}

    def columns(self) -> list[int] | None:
        """Return the labels of the 200 classes."""
        return columns(self.part)
