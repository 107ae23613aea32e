"""InstaHide: mixtures of several pictures, whose pixels' signs flip (Huang et al., ICML 2020)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Int8
from pydantic import Field
from torch import Generator, Tensor

from privbench.defense import Defense, Labels
from privbench.defenses._mixing import Mixture, library
from privbench.errors import BadSetting
from privbench.threat import Images, Randomness
from privbench.vit import ViT

FIRST = 3.0
"""Of the Dirichlet distribution, for the picture itself; one for each other."""
MIDDLE = 0.5
"""Gray, at which a pixel in [0, 1] has no sign."""
ROOM = 1.02
"""Over equal shares, below which hardly any draw stays."""


@dataclass(frozen=True)
class Encoding(Mixture):
    """A mixture and what its pixels are multiplied by, around gray."""

    signs: Int8[Tensor, "b 3 h w"]


class InstaHide(Defense):
    """InstaHide: each picture mixed with others of its batch, and random signs on all pixels."""

    paper: ClassVar[str] = "arXiv:2010.02772"
    draws: ClassVar[type[Randomness]] = Encoding
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "unmix")
    k: Annotated[int, Field(ge=1)] = 4
    """Pictures in a mixture; all of them in a smaller batch."""
    bound: Annotated[float, Field(gt=0, le=1)] = 0.65
    """That no share may exceed, where there is more than one picture."""
    flip: bool = True
    """Whether signs flip; if not, it is mixup of k pictures."""

    def draw(self, vit: ViT, batch: int, rng: Generator) -> Encoding:
        """Draw the other pictures, shares and signs; raises BadSetting."""
        k = min(self.k, batch)
        if k > 1 and self.bound < ROOM / k:
            raise BadSetting(
                f"instahide: {k} shares that sum to one cannot all stay below {self.bound:g}. "
                f"Set defense.bound={2 / k:g} or more."
            )
        others = [
            torch.cat([torch.tensor([own]), own + 1 + torch.randperm(batch - 1, generator=rng)])
            for own in range(batch)
        ]
        parts = torch.stack(others)[:, :k] % batch
        numbers, rows = library(rng), []
        while len(rows) < batch:
            drawn = numbers.dirichlet([FIRST, *[1.0] * (k - 1)], size=batch)
            rows += [row.tolist() for row in drawn if k == 1 or row.max() <= self.bound]
        shape = (batch, 3, vit.side, vit.side)
        coins = torch.randint(2, shape, generator=rng, dtype=torch.int8)
        signs = 2 * coins - 1 if self.flip else torch.ones_like(coins)
        return Encoding(parts, torch.tensor(rows[:batch]), signs)

    def prepare(
        self, vit: ViT, images: Images, labels: Labels, randomness: Randomness | None
    ) -> tuple[Images, Labels]:
        """Mix and flip; without a draw pictures stay, as in evaluation."""
        if not isinstance(randomness, Encoding):
            return images, labels
        pictures, shares = randomness.mixed(images, labels)
        return MIDDLE + randomness.signs.to(pictures) * (pictures - MIDDLE), shares
