"""A variational bottleneck before the head (as PRECODE: Scheliga et al., WACV 2022)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor, nn

from privbench.defense import Defense, Labels, Outputs, Terms
from privbench.threat import Images, Randomness
from privbench.vit import ViT


@dataclass(frozen=True)
class Code(Randomness):
    """Standard normal noise of every example's code."""

    noise: Float[Tensor, "b k"]


class Bottleneck(Defense):
    """Stochastic bottleneck: the head sees a noisy code of the features, kept near a normal one."""

    paper: ClassVar[str] = "arXiv:2208.04767"
    ENCODER: ClassVar[str] = "encoder"
    DECODER: ClassVar[str] = "decoder"
    draws: ClassVar[type[Randomness]] = Code
    width: Annotated[int, Field(ge=1)] = 16
    """Numbers in a code."""
    beta: Annotated[float, Field(ge=0)] = 0.001
    """Weight of the divergence from a standard normal distribution."""

    def equip(self, vit: ViT, rng: Generator) -> None:
        """Add one map into the code's mean and log-variance, and one back."""
        d, k = vit.positions.shape[-1], self.width
        vit.register_parameter(
            self.ENCODER, nn.Parameter(torch.randn(2 * k, d, generator=rng) / d**0.5)
        )
        vit.register_parameter(
            self.DECODER, nn.Parameter(torch.randn(d, k, generator=rng) / k**0.5)
        )

    def draw(self, vit: ViT, batch: int, rng: Generator) -> Code:
        """Draw the noise."""
        return Code(torch.randn(batch, self.width, generator=rng))

    def simulate(
        self, vit: ViT, batch: int, rng: Generator, known: Randomness | None = None
    ) -> Randomness:
        """Let a server draw noise of its own."""
        return self.draw(vit, batch, rng) if known is None else known

    def forward(
        self,
        vit: ViT,
        images: Images,
        positions: Float[Tensor, "_ k d"],
        randomness: Randomness | None,
    ) -> Outputs:
        """Pass the features through the code; without noise through its mean."""
        plain = super().forward(vit, images, positions, randomness)
        mean, spread = (plain.features @ getattr(vit, self.ENCODER).T).chunk(2, dim=1)
        code = mean
        if isinstance(randomness, Code):
            code = mean + (spread / 2).exp() * randomness.noise.to(mean)
        features = code @ getattr(vit, self.DECODER).T
        return Outputs(vit.classify(features), features, {"mean": mean, "spread": spread})

    def losses(
        self,
        terms: Terms,
        outputs: Outputs,
        labels: Labels,
        randomness: Randomness | None,
        progress: float,
    ) -> Terms:
        """Add each example's divergence, in nats."""
        mean, spread = (outputs.auxiliary[name].to(terms) for name in ("mean", "spread"))
        divergence = (mean.square() + spread.exp() - 1 - spread).sum(1) / 2
        return terms + self.beta * divergence
