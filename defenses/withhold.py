"""Named tensors stay with the client."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import ClassVar

from privbench.defense import Defense
from privbench.errors import UnknownName
from privbench.vit import ViT


class Withhold(Defense):
    """Named tensors are not shared; by default the gradient of the position table."""

    answered_by: ClassVar[tuple[str, ...]] = ("auto", "span", "peel", "pe_watermark")
    tensors: str = ViT.POSITIONS
    """Parameter names or patterns such as backbone.blocks.0.*, separated by commas."""

    def withholds(self, names: Iterable[str]) -> frozenset[str]:
        """Return the names that a pattern fits; each pattern has to fit one (UnknownName)."""
        known = list(names)
        kept: set[str] = set()
        for pattern in (part.strip() for part in self.tensors.split(",")):
            fitting = {name for name in known if fnmatchcase(name, pattern)}
            # A victim without trained positions has none to withhold: that is no mistake.
            if not fitting and pattern != ViT.POSITIONS:
                raise UnknownName("trained parameter", pattern, known)
            kept |= fitting
        return frozenset(kept)
