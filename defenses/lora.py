"""Low-rank adaptation: small factors beside frozen layers (Hu et al., ICLR 2022)."""

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn.functional import linear

from privbench.defense import Defense
from privbench.defenses._parameters import head, wrap
from privbench.vit import ViT

LAYERS = {
    "qkv": ("attn.qkv",),
    "attention": ("attn.qkv", "attn.proj"),
    "mlp": ("mlp.fc1", "mlp.fc2"),
    "all": ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"),
}


class LowRank(nn.Linear):
    """W x + b + scale * up down x, with the layer's own W and b; up begins as zeros."""

    def __init__(self, layer: nn.Linear, rank: int, scale: float, rng: Generator) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias, self.scale = layer.weight, layer.bias, scale
        bound = layer.in_features**-0.5  # the released code's Kaiming start
        down = (2 * torch.rand(rank, layer.in_features, generator=rng) - 1) * bound
        self.down = nn.Parameter(down)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, input: Float[Tensor, "*r f"]) -> Float[Tensor, "*r g"]:
        """Apply the layer and what is beside it."""
        return super().forward(input) + self.scale * linear(linear(input, self.down), self.up)


class Lora(Defense):
    """Low-rank adapters: only they and the head are trained and shared."""

    paper: ClassVar[str] = "arXiv:2106.09685"
    selects: ClassVar[bool] = True
    answered_by: ClassVar[tuple[str, ...]] = ("decoder", "map")
    rank: Annotated[int, Field(ge=1)] = 8
    alpha: Annotated[float, Field(gt=0)] = 8.0
    """What is beside a layer counts alpha / rank times."""
    layers: Literal["qkv", "attention", "mlp", "all"] = "all"
    """Layers of every block that have adapters: qkv; and proj; fc1 and fc2; or all four."""

    def equip(self, vit: ViT, rng: Generator) -> None:
        """Put adapters beside layers, and train them and the head; raises UnsupportedModel."""
        scale = self.alpha / self.rank
        own = wrap(vit, LAYERS[self.layers], lambda one: LowRank(one, self.rank, scale, rng))
        vit.train_only(own | head(vit))
