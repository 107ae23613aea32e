"""Mixup as a defense: pictures and labels are mixed with others of the client's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Generator, Tensor

from privbench.defense import Defense, Labels
from privbench.errors import BadSetting
from privbench.threat import Images, Randomness
from privbench.vit import ViT


@dataclass(frozen=True)
class Mixture(Randomness):
    """Which picture each one is mixed with, and how much of it is left."""

    partner: Int[Tensor, " b"]
    share: Float[Tensor, " b"]

    def rows(self, indices: Sequence[int]) -> "Mixture":
        """Return the mixtures of some images; their partners have to be among them."""
        places = {image: place for place, image in enumerate(indices)}
        partners = self.partner[list(indices)].tolist()
        if not places.keys() >= set(partners):
            raise BadSetting(
                "mixed pairs any two pictures of a batch, so a batch cannot be shared among "
                "processes. Train in one process, without torchrun."
            )
        return Mixture(torch.tensor([places[p] for p in partners]), self.share[list(indices)])


class Mixup(Defense):
    """Mixup: the network sees each picture mixed with a second one, and labels to match."""

    paper: ClassVar[str] = "arXiv:1710.09412"
    draws: ClassVar[type[Randomness]] = Mixture
    least: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Least share of a picture in its own mixture."""

    def draw(self, vit: ViT, batch: int, rng: Generator) -> Mixture:
        """Draw a permutation of the pictures, and shares between the least and one."""
        share = self.least + (1 - self.least) * torch.rand(batch, generator=rng)
        return Mixture(torch.randperm(batch, generator=rng), share)

    def prepare(
        self, vit: ViT, images: Images, labels: Labels, randomness: Randomness | None
    ) -> tuple[Images, Labels]:
        """Mix; without a draw nothing is mixed, as in evaluation."""
        if not isinstance(randomness, Mixture):
            return images, labels
        share = randomness.share.to(images)
        partner = randomness.partner.to(images.device)
        column, cube = share[:, None], share[:, None, None, None]
        mixed = cube * images + (1 - cube) * images[partner]
        return mixed, column * labels + (1 - column) * labels[partner]
