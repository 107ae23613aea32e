"""Patch and pixel shuffling, the strongest baseline of Masked Jigsaw Puzzle (arXiv:2205.12551)."""

from typing import ClassVar, Literal

import torch
from torch import Generator

from privbench.block_masks import moved
from privbench.defense import Defense, Labels
from privbench.patches import cut, join
from privbench.threat import Draw, Images, Randomness
from privbench.vit import ViT


class PatchPixelShuffle(Defense):
    """Patch and pixel shuffling: all patches change places, and the pixels inside each."""

    paper: ClassVar[str] = "arXiv:2105.01601"
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "jigsaw")
    draws: ClassVar[type[Randomness]] = Draw
    places: ClassVar[bool] = True
    per: Literal["batch", "image"] = "batch"
    """One draw for the whole batch, as released, or one for each image."""

    def draw(self, vit: ViT, batch: int, rng: Generator) -> Draw:
        """Draw a permutation of the patches and one of the pixels, the same in all patches."""
        count = 1 if self.per == "batch" else batch
        order = torch.stack([torch.randperm(vit.grid**2, generator=rng) for _ in range(count)])
        inner = torch.stack([torch.randperm(vit.patch**2, generator=rng) for _ in range(count)])
        order, inner = (t.expand(batch, -1).clone() for t in (order, inner))
        return Draw(torch.ones_like(order, dtype=torch.bool), order, inner)

    def prepare(
        self, vit: ViT, images: Images, labels: Labels, randomness: Randomness | None
    ) -> tuple[Images, Labels]:
        """Move patches and pixels; without a draw nothing moves, as in evaluation."""
        if not isinstance(randomness, Draw):
            return images, labels
        return self._moved(vit, images, randomness), labels

    @staticmethod
    def _moved(vit: ViT, images: Images, draw: Draw) -> Images:
        assert draw.inner is not None
        patches = cut(moved(images, vit.patch, draw), vit.patch)
        b, n, p = patches.shape
        channels = patches.reshape(b, n, -1, vit.patch**2)  # b n c q
        inner = draw.inner.to(images.device)[:, None, None].expand_as(channels)
        return join(channels.gather(3, inner).reshape(b, n, p), vit.patch)
