"""timm's VisionTransformer and its distilled kin: ViT, DeiT, DeiT-III, CLIP, SigLIP, DINOv2."""

from typing import ClassVar

from jaxtyping import Float
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.models import vision_transformer
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn
from torch.nn import GELU, Identity, LayerNorm

from privbench.roles import Block, Linear, Role
from privbench.vit import ViT


class VisionTransformer(ViT):
    """Learned positions at the input, stock blocks, with or without class token and layer scale."""

    takes: ClassVar[tuple[type[nn.Module], ...]] = (
        vision_transformer.VisionTransformer,
        VisionTransformerDistilled,
    )
    stock: ClassVar[tuple[type[nn.Module], ...]] = (vision_transformer.Block,)

    def block(self, number: int) -> Block:
        """Return a plain block's parts, layer scale folded; raises UnsupportedModel."""
        block = self.backbone.blocks[number]
        if type(block) not in self.stock or not _plain(block):
            raise self._lacks(Role.TOKENS)
        at = f"{self.BACKBONE}blocks.{number}"
        attention, mlp = block.attn, block.mlp
        return Block(
            norm1=block.norm1,
            norm2=block.norm2,
            proj=_folded(f"{at}.attn.proj", attention.proj, block.ls1),
            fc1=Linear(f"{at}.mlp.fc1", mlp.fc1.weight, mlp.fc1.bias),
            fc2=_folded(f"{at}.mlp.fc2", mlp.fc2, block.ls2),
            heads=lambda z: _heads(attention, z),
        )


def _plain(block: vision_transformer.Block) -> bool:
    """Whether nothing stands between norms, linear layers, attention and GELU."""
    attention, mlp = block.attn, block.mlp
    if type(attention) is not Attention or type(mlp) is not Mlp:
        return False
    between = (attention.norm, mlp.norm)
    layers = (attention.qkv, attention.proj, mlp.fc1, mlp.fc2)
    return (
        isinstance(mlp.act, GELU)
        and mlp.act.approximate == "none"
        and isinstance(block.norm1, LayerNorm)
        and isinstance(block.norm2, LayerNorm)
        and not getattr(attention, "gate", None)
        and all(isinstance(one, Identity) for one in between)
        and all(isinstance(layer, nn.Linear) for layer in layers)
        and all(layer.bias is not None for layer in (attention.proj, mlp.fc1, mlp.fc2))
    )


def _folded(name: str, layer: nn.Linear, scale: nn.Module) -> Linear:
    """Return a layer with the layer scale behind it multiplied in."""
    gamma = getattr(scale, "gamma", None)
    if gamma is None:
        return Linear(name, layer.weight, layer.bias)
    return Linear(name, layer.weight * gamma[:, None], layer.bias * gamma)


def _heads(attention: Attention, z: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
    """Return what attention gives each token before the projection; no dropout."""
    b, t, _ = z.shape
    qkv = attention.qkv(z).view(b, t, 3, attention.num_heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)  # b heads t c
    query, key = attention.q_norm(query), attention.k_norm(key)
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    return (scores.softmax(-1) @ value).transpose(1, 2).reshape(b, t, -1)
