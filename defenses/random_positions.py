"""A fresh random position table at every step, which the client keeps."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor

from privbench.defense import Defense
from privbench.threat import Randomness
from privbench.vit import ViT


@dataclass(frozen=True)
class Table(Randomness):
    """Position table of every picture, prefix included."""

    rows_of: Float[Tensor, "b k d"]


class RandomPositions(Defense):
    """A fresh random position table at every step, known to the client alone and not trained."""

    paper: ClassVar[str] = "privbench"
    draws: ClassVar[type[Randomness]] = Table
    places: ClassVar[bool] = True
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "span")
    std: Annotated[float, Field(gt=0)] = 0.02
    """Of its entries; timm's tables begin with this."""
    per: Literal["batch", "image"] = "batch"
    """One table for the whole batch, or one for each image."""

    def equip(self, vit: ViT, rng: Generator) -> None:
        """Put one such table, for evaluation, in the place of the learned one."""
        vit.require_positions("this scheme draws one")
        vit.freeze_positions(self.std * torch.randn(vit.positions.shape, generator=rng))

    def draw(self, vit: ViT, batch: int, rng: Generator) -> Table:
        """Draw the table."""
        _, k, d = vit.positions.shape
        count = 1 if self.per == "batch" else batch
        table = self.std * torch.randn(count, k, d, generator=rng)
        return Table(table.expand(batch, -1, -1).clone())

    def simulate(
        self, vit: ViT, batch: int, rng: Generator, known: Randomness | None = None
    ) -> Randomness:
        """Take the mean of all tables for one that is unknown: zeros."""
        if isinstance(known, Table):
            return known
        return Table(torch.zeros_like(vit.positions, device="cpu").expand(batch, -1, -1).clone())

    def positions(self, vit: ViT, randomness: Randomness | None) -> Float[Tensor, "_ k d"]:
        """Return the table of this step; without one, that of evaluation."""
        if not isinstance(randomness, Table):
            return vit.positions
        return randomness.rows_of.to(vit.positions)
