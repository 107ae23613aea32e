"""Adapters: small bottlenecks behind each sublayer (Houlsby et al., ICML 2019)."""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn.functional import gelu, linear

from privbench.defense import Defense
from privbench.defenses._parameters import head, norms, wrap
from privbench.vit import ViT

STD = 0.01
"""Of an adapter's first weights, cut off at two of it, as in the paper: nearly the identity."""


class Adapted(nn.Linear):
    """y + up gelu(down y + offset) + shift of what the layer gives, y = W x + b."""

    def __init__(self, layer: nn.Linear, width: int, rng: Generator) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias, d = layer.weight, layer.bias, layer.out_features
        self.down = nn.Parameter(_normal(width, d, rng))
        self.offset = nn.Parameter(torch.zeros(width))
        self.up = nn.Parameter(_normal(d, width, rng))
        self.shift = nn.Parameter(torch.zeros(d))

    def forward(self, input: Float[Tensor, "*r f"]) -> Float[Tensor, "*r g"]:
        """Apply the layer, then the adapter."""
        given = super().forward(input)
        return given + linear(gelu(linear(given, self.down, self.offset)), self.up, self.shift)


def _normal(rows: int, columns: int, rng: Generator) -> Float[Tensor, "r c"]:
    """Draw from a normal distribution without its tails."""
    return nn.init.trunc_normal_(
        torch.empty(rows, columns), std=STD, a=-2 * STD, b=2 * STD, generator=rng
    )


class Adapter(Defense):
    """Adapters in each block: only they, the LayerNorms and the head are trained and shared."""

    paper: ClassVar[str] = "arXiv:1902.00751"
    selects: ClassVar[bool] = True
    answered_by: ClassVar[tuple[str, ...]] = ("decoder", "map")
    width: Annotated[int, Field(ge=1)] = 64
    """Of an adapter's bottleneck."""

    def equip(self, vit: ViT, rng: Generator) -> None:
        """Put adapters behind attention and MLP; raises UnsupportedModel."""
        own = wrap(vit, ("attn.proj", "mlp.fc2"), lambda one: Adapted(one, self.width, rng))
        vit.train_only(own | norms(vit) | head(vit))
