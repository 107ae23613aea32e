"""DefendedCase: what all cases of one victim under one defense have in common."""

from dataclasses import dataclass
from functools import cached_property

from privbench.component import Part
from privbench.records.sealed import SealedCase


@dataclass(frozen=True)
class DefendedCase(SealedCase):
    """One victim, one defense, one data set."""

    model: Part
    control: str | None
    """Label of the undefended victim."""
    weights: str
    weights_sha256: str
    defense: tuple[Part, ...]
    """On the update, in order."""
    dataset: Part
    images_sha256: str
    """Of pixels and labels."""
    seed: int

    @cached_property
    def defended(self) -> str:
        """The defenses on the update, as a table shows them."""
        return "+".join(part.label for part in self.defense)
