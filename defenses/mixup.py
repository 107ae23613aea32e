"""Mixup: a client trains on mixtures of two pictures (Zhang et al., ICLR 2018)."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator

from privbench.defense import Defense, Labels
from privbench.defenses._mixing import Mixture, library
from privbench.threat import Images, Randomness
from privbench.vit import ViT


class Pair(Mixture):
    """A picture and a second one, which may be itself."""


class Mixup(Defense):
    """Mixup: mixtures of two pictures of the batch, and of their labels; one alone stays itself."""

    paper: ClassVar[str] = "arXiv:1710.09412"
    draws: ClassVar[type[Randomness]] = Pair
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "unmix")
    alpha: Annotated[float, Field(gt=0)] = 1.0
    """Of the shares' Beta distribution: 1 is the paper's for CIFAR-10, it has 0.2 for ImageNet."""
    per: Literal["batch", "image"] = "batch"
    """One share for the whole batch, as released, or one for each image."""

    def draw(self, vit: ViT, batch: int, rng: Generator) -> Pair:
        """Draw who is mixed with whom, then the shares."""
        partner = torch.randperm(batch, generator=rng)
        count = 1 if self.per == "batch" else batch
        drawn = library(rng).beta(self.alpha, self.alpha, size=count)
        share = torch.tensor(drawn, dtype=torch.float32).expand(batch)
        parts = torch.stack([torch.arange(batch), partner], dim=1)
        return Pair(parts, torch.stack([share, 1 - share], dim=1))

    def prepare(
        self, vit: ViT, images: Images, labels: Labels, randomness: Randomness | None
    ) -> tuple[Images, Labels]:
        """Mix; without a draw nothing is mixed, as in evaluation."""
        return (
            randomness.mixed(images, labels) if isinstance(randomness, Pair) else (images, labels)
        )
