"""timm's BEiT and BEiTv2: attention with relative position biases, no table at the input."""

from typing import ClassVar

from jaxtyping import Float
from timm.models import beit
from torch import Tensor, nn

from privbench.vit import ViT


class Beit(ViT):
    """Positions enter as biases of attention, so no gradient of a table shows any token."""

    takes: ClassVar[tuple[type[nn.Module], ...]] = (beit.Beit,)
    stock: ClassVar[tuple[type[nn.Module], ...]] = (beit.Block,)

    def transform(self, sequence: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """All blocks, with the bias that they share, where they do."""
        shared = self.backbone.rel_pos_bias
        bias = None if shared is None else shared()
        for block in self.backbone.blocks:
            sequence = block(sequence, shared_rel_pos_bias=bias)
        return sequence
