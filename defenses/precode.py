"""PRECODE: a variational bottleneck before the head (Scheliga et al., WACV 2022)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn.functional import softplus

from privbench.defense import Defense, Labels, Outputs, Terms
from privbench.defenses._parameters import BOTTLENECK
from privbench.threat import Images, Randomness
from privbench.vit import ViT

SHIFT = 5.0
"""Taken from what the softplus makes a standard deviation of, so that noise begins small."""
RANK_ONE = 1e-3
"""Relative residual up to which a gradient is one example's, unspoilt."""


@dataclass(frozen=True)
class Code(Randomness):
    """Standard normal noise of every example's code."""

    noise: Float[Tensor, "b k"]


class Bottleneck(nn.Module):
    """Maps features to a code's mean and spread, and a code back to features."""

    def __init__(self, features: int, width: int, rng: Generator) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(features, 2 * width), nn.Linear(width, features)
        for layer in (self.encoder, self.decoder):
            bound = layer.in_features**-0.5  # torch's own start, from the given generator
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=rng)

    def statistics(
        self, features: Float[Tensor, "b f"]
    ) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k"]]:
        """Return mean and standard deviation of the code."""
        mean, spread = self.encoder(features).chunk(2, dim=1)
        return mean, softplus(spread - SHIFT)


class Precode(Defense):
    """PRECODE: the head sees a noisy code of the features, kept near a standard normal one."""

    paper: ClassVar[str] = "arXiv:2108.04725"
    draws: ClassVar[type[Randomness]] = Code
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls")
    width: Annotated[int, Field(ge=1)] = 256
    """Numbers in a code."""
    beta: Annotated[float, Field(ge=0)] = 0.001
    """Weight of the divergence from a standard normal distribution, in nats."""

    def equip(self, vit: ViT, rng: Generator) -> None:
        """Add the bottleneck; on weights that know nothing of it it begins as drawn."""
        features = sum(head.in_features for head in vit.heads)
        inner = Bottleneck(features, self.width, rng)
        vit.add_module(BOTTLENECK, inner)
        vit.fresh |= {f"{BOTTLENECK}.{name}" for name in inner.state_dict()}

    def draw(self, vit: ViT, batch: int, rng: Generator) -> Code:
        """Draw the noise."""
        return Code(torch.randn(batch, self.width, generator=rng))

    def told(
        self,
        vit: ViT,
        tensors: Mapping[str, Tensor],
        batch: int,
        known: Randomness | None = None,
    ) -> Randomness | None:
        """Return the noise of one example, which the update gives away in closed form.

        The gradient of each of the two layers is an outer product: of the decoder's with the code,
        of the encoder's with the features, whose mean and spread everybody computes. The scale of
        an update cancels. An update that is no such product any more keeps the noise.
        """
        code, features = (_input(tensors, f"{BOTTLENECK}.{one}") for one in ("decoder", "encoder"))
        if batch > 1 or code is None or features is None:
            return known
        with torch.no_grad():
            inner = vit.get_submodule(BOTTLENECK)
            assert isinstance(inner, Bottleneck)
            mean, spread = inner.statistics(features.to(vit.mean.dtype)[None])
        return Code((code - mean.double()).div(spread.double()).to(mean))

    def forward(
        self,
        vit: ViT,
        images: Images,
        positions: Float[Tensor, "_ k d"],
        randomness: Randomness | None,
    ) -> Outputs:
        """Pass the features through the code; without noise through its mean."""
        plain = super().forward(vit, images, positions, randomness)
        inner = vit.get_submodule(BOTTLENECK)
        assert isinstance(inner, Bottleneck)
        mean, spread = inner.statistics(plain.features)
        code = mean
        if isinstance(randomness, Code):
            code = mean + spread * randomness.noise.to(mean)
        features = inner.decoder(code)
        return Outputs(vit.classify(features), features, {"mean": mean, "spread": spread})

    def losses(
        self,
        terms: Terms,
        outputs: Outputs,
        labels: Labels,
        randomness: Randomness | None,
        progress: float,
    ) -> Terms:
        """Add each example's divergence."""
        mean, spread = (outputs.auxiliary[name].to(terms) for name in ("mean", "spread"))
        divergence = (mean.square() + spread.square() - 1 - 2 * spread.log()).sum(1) / 2
        return terms + self.beta * divergence


def _input(tensors: Mapping[str, Tensor], layer: str) -> Float[Tensor, " f"] | None:
    """Return what a linear layer got from one example, by its gradients; None where not told."""
    names = f"{layer}.weight", f"{layer}.bias"
    if not all(name in tensors for name in names):
        return None
    weight, bias = (tensors[name].double() for name in names)
    size = bias.square().sum()
    if not size:
        return None
    found = weight.T @ bias / size
    rest = weight - torch.outer(bias, found)
    return found if float(rest.norm()) < RANK_ONE * float(weight.norm()) else None
