"""Naive patch shuffling, the baseline of Masked Jigsaw Puzzle (arXiv:2205.12551)."""

import random
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator

from privbench.block_masks import LARGEST, SMALLEST, Sampler, draw_moves, moved, sample
from privbench.defense import Defense, Labels
from privbench.threat import Draw, Images, Randomness
from privbench.vit import ViT


class Shuffle(Defense):
    """Naive shuffling: some patches change places, every position embedding stays."""

    paper: ClassVar[str] = "arXiv:2205.12551"
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "jigsaw", "rounds")
    draws: ClassVar[type[Randomness]] = Draw
    places: ClassVar[bool] = True
    ratio: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Nominal share of the patches; the realized share is in the record."""
    sampler: Sampler = "blockwise"
    """blockwise (BEiT's, as released: may fall short), blockwise_exact, or uniform."""
    smallest: Annotated[int, Field(ge=1)] = SMALLEST
    """Smallest block, in patches."""
    largest: Annotated[int, Field(ge=1)] = LARGEST
    """Cap on a block, in patches; the released code never scales it with the ratio."""
    per: Literal["batch", "image"] = "batch"
    """One draw for the whole batch, as released, or one for each image."""

    def draw(self, vit: ViT, batch: int, rng: Generator) -> Draw:
        """Draw the mask, then the permutation inside it."""
        words = random.Random(int(torch.randint(2**62, (), generator=rng)))
        rows = [
            sample(self.sampler, vit.grid, self.ratio, self.smallest, self.largest, words)
            for _ in range(1 if self.per == "batch" else batch)
        ]
        draw = draw_moves(torch.tensor(rows), rng)
        return Draw(draw.mask.expand(batch, -1).clone(), draw.order.expand(batch, -1).clone())

    def prepare(
        self, vit: ViT, images: Images, labels: Labels, randomness: Randomness | None
    ) -> tuple[Images, Labels]:
        """Move the patches; without a draw nothing moves, as in evaluation."""
        if not isinstance(randomness, Draw):
            return images, labels
        return moved(images, vit.patch, randomness), labels
