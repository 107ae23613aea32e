"""Jigsaw: shuffled patches put back into order by their seams.

A closed form returns what entered the network, in the order in which it entered. No gradient says
where a patch stood before, but its borders do. Where a defense moves the pixels of each patch, too,
all of them alike, what is near in pictures is alike, and puts them back (`_order/pixels`).
"""

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Generator

from privbench.attack import Attack, Tick
from privbench.attacks._order.pixels import put_back
from privbench.component import make
from privbench.observation import Observation
from privbench.threat import Draw, Reconstruction


class Jigsaw(Attack):
    """Another attack's patches, re-assembled by the fit of their borders."""

    paper: ClassVar[str] = "doi:10.1109/CVPR.2012.6247699"
    version: ClassVar[int] = 2
    content: str = "pe_ls"
    """The attack that finds the patches; any but this one."""
    steps: Annotated[int, Field(ge=1)] = 200
    """Arrangements that are tried for each picture."""

    def __post_init__(self) -> None:
        """Refuse to take content from a jigsaw."""
        if self.content == type(self).__module__.rpartition(".")[2]:
            raise ValueError("content comes from another attack")

    def nested(self) -> tuple[str, ...]:
        """Name the attack that finds the patches."""
        return (self.content,)

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Find patches, then the order with the best seams; masked cells alone if known."""
        total = seen.shape[0] * self.steps
        inner = make(Attack, self.content, {})
        found = inner.reconstruct(seen, rng, lambda done, of, value: tick(0, total, value))
        draw = found.draw if isinstance(found.draw, Draw) else None
        placed = put_back(seen, found.images, rng, self.steps, tick, draw)
        tick(total, total, placed.cost)
        return Reconstruction(
            placed.images,
            objective=placed.cost,
            labels=found.labels,
            gradient_calls=found.gradient_calls,
            report={**found.report, "moved": placed.moved},
            warnings=found.warnings,
        )
