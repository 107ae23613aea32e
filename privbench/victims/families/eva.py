"""timm's EVA, EVA-02 and their kin with rotary embeddings: DINOv3, PE, ViT with RoPE."""

from typing import Any, ClassVar

from jaxtyping import Float
from timm.models import eva
from torch import Tensor, nn

from privbench.vit import ViT


class Eva(ViT):
    """Positions turn queries and keys; some models add a learned table at the input as well."""

    takes: ClassVar[tuple[type[nn.Module], ...]] = (eva.Eva,)
    stock: ClassVar[tuple[type[nn.Module], ...]] = (eva.EvaBlock,)

    def transform(self, sequence: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """All blocks, with rotary embeddings for all, or for each its own."""
        turns = self._turns()
        for number, block in enumerate(self.backbone.blocks):
            sequence = block(sequence, rope=turns[number] if self.backbone.rope_mixed else turns)
        return sequence

    def _turns(self) -> Any:
        """Return sines and cosines of each patch, or None; some kinds have to be told the grid."""
        rope = self.backbone.rope
        if rope is None:
            return None
        return rope.get_embed(**{} if hasattr(rope, "feat_shape") else {"shape": (self.grid,) * 2})
