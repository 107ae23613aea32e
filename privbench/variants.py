"""Variants of timm's modules: dropout whose masks are an argument, and APRIL's first block."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Generator, Tensor, nn

from privbench.errors import UnsupportedModel

Masks = Callable[[torch.Size], Tensor]
"""Gives a mask for activations of a shape: 1 where they are kept, 0 where they are dropped."""


class Dropout(nn.Dropout):
    """Dropout that takes its masks from a source, if it has one; torch's own otherwise."""

    masks: Masks | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Multiply by the mask, and by one over the share that is kept."""
        if self.masks is None:
            return super().forward(input)
        return input * self.masks(input.shape) / (1 - self.p)


class FirstBlock(nn.Module):
    """A block without its first LayerNorm and without residuals, as APRIL needs it.

    From arXiv:2112.14087, section 3.2: only there does attention see the tokens themselves.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.attn, self.norm2, self.mlp = block.attn, block.norm2, block.mlp

    def forward(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Attend, normalize, and apply the MLP."""
        return self.mlp(self.norm2(self.attn(tokens)))


def strip_first_block(backbone: VisionTransformer) -> None:
    """Put APRIL's block in the place of a stock first one; raises UnsupportedModel."""
    first = backbone.blocks[0]
    if not isinstance(first, Block):
        raise UnsupportedModel(
            f"first_block=april changes a stock block, and this model starts with a "
            f"{type(first).__name__}. Choose another victim (`privbench list models`)."
        )
    backbone.blocks[0] = FirstBlock(first)


def give_dropout(backbone: nn.Module, rate: float) -> None:
    """Let a timm transformer drop positions, attention, projections and hidden units at a rate."""
    for module in list(backbone.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Dropout) and name != "head_drop":
                setattr(module, name, Dropout(rate))


def dropouts(model: nn.Module) -> dict[str, Dropout]:
    """Dropout modules by name, in the order in which a model registers them."""
    return {name: one for name, one in model.named_modules() if isinstance(one, Dropout)}


def drop_by(model: nn.Module, rng: Generator, device: torch.device) -> None:
    """Let a model's dropouts draw their masks from a generator on the CPU, anew at each call.

    The model must be the caller's own: other threads may use a shared one.
    """

    def drawing(rate: float) -> Masks:
        return lambda shape: (torch.rand(shape, generator=rng) >= rate).float().to(device)

    for module in dropouts(model).values():
        module.masks = drawing(module.p)
