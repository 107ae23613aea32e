"""A timm vision transformer whose position embeddings are an argument."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from privbench.errors import UnsupportedModel
from privbench.threat import Images


class ViT(nn.Module):
    """Images in [0, 1] and, if wanted, another position table; logits out."""

    BACKBONE = "backbone."
    POSITIONS = "backbone.pos_embed"
    PROJECTION = "backbone.patch_embed.proj.weight"
    HEAD = "backbone.head.weight"
    HEAD_BIAS = "backbone.head.bias"

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        plain = type(backbone) in (VisionTransformer, VisionTransformerDistilled)
        plain = plain and not getattr(backbone, "dynamic_img_size", False)
        if not isinstance(backbone, VisionTransformer) or not plain or backbone.pos_embed is None:
            raise UnsupportedModel(
                f"{type(backbone).__name__} adds no position table of fixed size at its "
                "input. Choose a plain ViT or DeiT of timm, e.g. timm:deit_small_patch16_224."
            )
        self.backbone = backbone
        # Gradient matching differentiates twice; the fused attention kernels cannot.
        for module in backbone.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = False  # type: ignore[assignment]
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return self.backbone.patch_embed.patch_size[0]

    @property
    def side(self) -> int:
        """Side of the pictures in pixels."""
        size = self.backbone.patch_embed.img_size
        assert size is not None
        return size[0]

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.side // self.patch

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.backbone.num_classes

    @property
    def prefix(self) -> int:
        """Rows of the position table that belong to no patch."""
        return self.positions.shape[1] - self.grid**2

    @property
    def positions(self) -> Float[Tensor, "1 k d"]:
        """The backbone's own table: n rows, or n + 1 (+ registers) with the prefix."""
        assert self.backbone.pos_embed is not None
        return self.backbone.pos_embed

    def trained(self) -> dict[str, nn.Parameter]:
        """Parameters that a client trains, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def freeze_positions(self, table: Float[Tensor, "1 k d"]) -> None:
        """Put a fixed table in the place of the learned one."""
        self.backbone.pos_embed = nn.Parameter(table, requires_grad=False)

    def patches(self, images: Images) -> Float[Tensor, "b n d"]:
        """Normalize and embed; no positions yet."""
        return self.backbone.patch_embed((images - self.mean) / self.std)

    def encode(self, images: Images, positions: Float[Tensor, "_ k d"]) -> Float[Tensor, "b t d"]:
        """Tokens after the last norm; the class token, where there is one, comes first."""
        patches = self.patches(images)
        vit = self.backbone
        prefix = [
            token.expand(len(patches), -1, -1)
            for token in (vit.cls_token, getattr(vit, "dist_token", None), vit.reg_token)
            if token is not None
        ]
        if vit.no_embed_class:  # DeiT-III: the table has no row for the prefix
            tokens = torch.cat([*prefix, patches + positions], dim=1)
        else:
            tokens = torch.cat([*prefix, patches], dim=1) + positions  # b k d
        tokens = vit.norm_pre(vit.patch_drop(vit.pos_drop(tokens)))
        return vit.norm(vit.blocks(tokens))

    def features(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b f"]:
        """Pooled tokens, as the last linear layer sees them; of two heads, side by side."""
        if isinstance(self.backbone, VisionTransformerDistilled):
            pooled = [self.backbone.head_drop(tokens[:, place]) for place in (0, 1)]
            return torch.cat(pooled, dim=1)
        return self.backbone.forward_head(tokens, pre_logits=True)

    def classify(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b classes"]:
        """Logits of pooled tokens; the mean of two heads where there are two."""
        if isinstance(self.backbone, VisionTransformerDistilled):
            first, second = features.chunk(2, dim=1)
            return (self.backbone.head(first) + self.backbone.head_dist(second)) / 2
        return self.backbone.head(features)

    def head(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b classes"]:
        """Pool encoded tokens and classify them."""
        return self.backbone.forward_head(tokens)

    def forward(
        self, images: Images, positions: Float[Tensor, "_ k d"] | None = None
    ) -> Float[Tensor, "b classes"]:
        """Logits; the table defaults to the backbone's own."""
        table = self.positions if positions is None else positions
        return self.head(self.encode(images, table))
