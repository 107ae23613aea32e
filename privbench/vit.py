"""A vision transformer whose position embeddings are an argument and whose parts have roles."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from privbench.errors import UnsupportedModel
from privbench.patches import cut, join
from privbench.roles import NAMES, Block, Linear, Role
from privbench.threat import Images


class ViT(nn.Module):
    """Images in [0, 1] and, if wanted, another position table; logits out.

    A family of backbones is a subclass in `privbench/victims/families`. It says which of timm's
    classes it takes, and overrides what is not as in timm's VisionTransformer. What attacks ask
    for is a role (`stem`, `table`, `block`, `heads`), never a name inside the backbone.
    """

    BACKBONE: ClassVar[str] = "backbone."
    POSITIONS: ClassVar[str] = "backbone.pos_embed"
    PROJECTION: ClassVar[str] = "backbone.patch_embed.proj.weight"
    HEAD: ClassVar[str] = "backbone.head.weight"
    HEAD_BIAS: ClassVar[str] = "backbone.head.bias"
    takes: ClassVar[tuple[type[nn.Module], ...]] = ()
    """Classes of timm that this family wraps; subclasses of theirs are others."""
    stock: ClassVar[tuple[type[nn.Module], ...]] = ()
    """Classes of blocks that begin with a LayerNorm, then attention."""

    backbone: Any
    mean: Tensor
    std: Tensor
    blank: Tensor
    fixed: frozenset[str] = frozenset()
    """Parameters whose values a scheme decides, so that weights of other values are another's."""
    fresh: frozenset[str] = frozenset()
    """Parameters that a defense added to a network of any weights: they begin as it drew them."""

    def __init__(self, backbone: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.backbone = backbone
        sizes = self.backbone.patch_embed.img_size
        if getattr(backbone, "dynamic_img_size", False) or not sizes or sizes[0] != sizes[1]:
            raise UnsupportedModel(
                f"This {type(backbone).__name__} takes pictures of any size, or no squares, and a "
                "victim takes squares of one size. Build it with dynamic_img_size=False and an "
                "img_size."
            )
        # Gradient matching differentiates twice; the fused attention kernels cannot.
        for module in backbone.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = False  # type: ignore[assignment]
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        rows = 0 if self._table() is not None else self.tokens
        # stands in for the table of a family that adds none at its input
        blank = torch.zeros(1, rows, self.backbone.embed_dim)
        self.register_buffer("blank", blank, persistent=False)

    @property
    def side(self) -> int:
        """Side of the pictures in pixels."""
        return self.backbone.patch_embed.img_size[0]

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.backbone.patch_embed.grid_size[0]

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return self.side // self.grid

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.backbone.num_classes

    @property
    def width(self) -> int:
        """Numbers of a token, d."""
        return self.positions.shape[-1]

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.backbone.blocks)

    @property
    def prefix(self) -> int:
        """Rows of the position table that belong to no patch."""
        return self.positions.shape[1] - self.grid**2

    @property
    def positions(self) -> Float[Tensor, "1 k d"]:
        """The backbone's own table: n rows, or n + 1 (+ registers) with the prefix.

        Zeros without gradient where the backbone adds none at its input.
        """
        table = self._table()
        return self.blank if table is None else table

    def _table(self) -> Tensor | None:
        return getattr(self.backbone, "pos_embed", None)

    @property
    def tokens_before(self) -> int:
        """How many tokens stand before the patches."""
        return sum(token.shape[1] for token in self.before)

    @property
    def tokens(self) -> int:
        """How many tokens a picture has in the blocks."""
        return self.grid**2 + self.tokens_before

    @property
    def prefix_has_rows(self) -> bool:
        """Whether the position table has a row for each token before the patches."""
        return self.prefix == self.tokens_before

    @property
    def before(self) -> list[Float[Tensor, "1 k d"]]:
        """Parameters of the tokens that stand before the patches, in their order."""
        names = ("cls_token", "dist_token", "reg_token")
        tokens = (getattr(self.backbone, name, None) for name in names)
        return [token for token in tokens if token is not None]

    def trained(self) -> dict[str, nn.Parameter]:
        """Parameters that a client trains, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def freeze_positions(self, table: Float[Tensor, "1 k d"]) -> None:
        """Put a fixed table in the place of the learned one."""
        self.backbone.pos_embed = nn.Parameter(table, requires_grad=False)
        self.fixed |= {self.POSITIONS}

    def train_only(self, names: Iterable[str]) -> None:
        """Let a client train these parameters, of those that it trains, and no others."""
        kept = frozenset(names)
        for name, parameter in self.trained().items():
            parameter.requires_grad_(name in kept)

    def require_positions(self, why: str) -> None:
        """Raise UnsupportedModel where no table is added at the input."""
        if self._table() is None:
            raise UnsupportedModel(
                f"{type(self.backbone).__name__} adds no position table at its input, and {why}. "
                "Choose a plain ViT or DeiT, e.g. timm:deit_small_patch16_224."
            )

    # From pixels to tokens

    def patches(self, images: Images) -> Float[Tensor, "b n p"]:
        """Cut pictures into normalized patches."""
        return cut((images - self.mean) / self.std, self.patch)

    def pixels(self, patches: Float[Tensor, "b n p"]) -> Images:
        """Pictures from normalized patches, in the patches' precision; the inverse of `patches`."""
        return join(patches, self.patch) * self.std.to(patches) + self.mean.to(patches)

    def embed(self, images: Images) -> Float[Tensor, "b n d"]:
        """Normalize and embed; no positions yet."""
        return self.backbone.patch_embed((images - self.mean) / self.std)

    def prefix_tokens(
        self, positions: Float[Tensor, "_ k d"] | None = None
    ) -> Float[Tensor, "_ t d"]:
        """Class, distillation and register tokens as they stand before the patches.

        With their rows of a position table, where it has such rows; no token, no row.
        """
        table = self.positions if positions is None else positions
        before = self.before
        tokens = torch.cat(before, dim=1) if before else table[:, :0]
        return tokens + table[:, : self.prefix] if self.prefix else tokens

    def sequence(
        self, tokens: Float[Tensor, "b n d"], positions: Float[Tensor, "_ k d"] | None = None
    ) -> Float[Tensor, "b t d"]:
        """Sequence that enters the blocks, from embedded patches: the prefix, and positions."""
        table = self.positions if positions is None else positions
        vit = self.backbone
        before = [token.expand(len(tokens), -1, -1) for token in self.before]
        if before and not self.prefix:  # DeiT-III: the table has no row for the prefix
            tokens = torch.cat([*before, tokens + table], dim=1)
        else:
            tokens = torch.cat([*before, tokens], dim=1) + table  # b k d
        tokens = vit.pos_drop(tokens)
        for name in ("patch_drop", "norm_pre"):
            if (layer := getattr(vit, name, None)) is not None:
                tokens = layer(tokens)
        return tokens

    def transform(self, sequence: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """All blocks, without the last norm."""
        return self.backbone.blocks(sequence)

    def encode(self, images: Images, positions: Float[Tensor, "_ k d"]) -> Float[Tensor, "b t d"]:
        """Tokens after the last norm; the class token, where there is one, comes first."""
        sequence = self.sequence(self.embed(images), positions)
        return self.backbone.norm(self.transform(sequence))

    def features(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b f"]:
        """Pool encoded tokens: what the head sees; of two heads both, one after the other."""
        if (count := len(self.heads)) > 1:  # distilled: each head has a token of its own
            return self.backbone.head_drop(tokens[:, :count]).flatten(1)
        return self.backbone.forward_head(tokens, pre_logits=True)

    def classify(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b classes"]:
        """Logits from pooled features; two heads are averaged, as timm does outside training."""
        if (count := len(self.heads)) > 1:
            parts = zip(self.heads, features.chunk(count, dim=1), strict=True)
            first, second = (head(part) for head, part in parts)
            return (first + second) / 2
        return self.backbone.head(features)

    def head(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b classes"]:
        """Pool encoded tokens and classify them."""
        return self.classify(self.features(tokens))

    def forward(
        self, images: Images, positions: Float[Tensor, "_ k d"] | None = None
    ) -> Float[Tensor, "b classes"]:
        """Logits; the table defaults to the backbone's own."""
        table = self.positions if positions is None else positions
        return self.head(self.encode(images, table))

    # What plays which role

    @property
    def stem(self) -> Linear:
        """The patch projection, d x p for its weight; raises UnsupportedModel."""
        embed = self.backbone.patch_embed
        proj: Any = getattr(embed, "proj", None)
        sides = (self.patch, self.patch)
        plain = isinstance(proj, nn.Conv2d) and proj.kernel_size == proj.stride == sides
        if not plain or not isinstance(getattr(embed, "norm", nn.Identity()), nn.Identity):
            raise self._lacks(Role.STEM)
        return Linear(f"{self.BACKBONE}patch_embed.proj", proj.weight.flatten(1), proj.bias)

    @property
    def heads(self) -> tuple[nn.Linear, ...]:
        """Last linear layers, whose logits are averaged; more than one in a distilled model."""
        both = (getattr(self.backbone, name, None) for name in ("head", "head_dist"))
        return tuple(one for one in both if isinstance(one, nn.Linear))

    @property
    def first_block(self) -> str:
        """Name of the first block's parameters, up to a dot."""
        return f"{self.BACKBONE}blocks.0."

    @property
    def qkv(self) -> Linear:
        """Queries, keys and values of the first block; raises UnsupportedModel."""
        layer = getattr(getattr(self.backbone.blocks[0], "attn", None), "qkv", None)
        if not isinstance(layer, nn.Linear):
            raise self._lacks(Role.QKV)
        return Linear(f"{self.first_block}attn.qkv", layer.weight, layer.bias)

    @property
    def first_norm(self) -> nn.LayerNorm:
        """What stands between the sequence and the first attention; raises UnsupportedModel."""
        block = self.backbone.blocks[0]
        at_once = isinstance(getattr(self.backbone, "norm_pre", nn.Identity()), nn.Identity)
        if not at_once or type(block) not in self.stock:
            raise self._lacks(Role.NORM)
        if not isinstance(block.norm1, nn.LayerNorm):
            raise self._lacks(Role.NORM)
        return block.norm1

    def hidden(self, block: int) -> Linear:
        """First layer of a block's MLP; raises UnsupportedModel."""
        mlp = getattr(self.backbone.blocks[block], "mlp", None)
        if type(mlp) is not Mlp or not isinstance(mlp.fc1, nn.Linear):
            raise self._lacks(Role.MLP)
        return Linear(f"{self.BACKBONE}blocks.{block}.mlp.fc1", mlp.fc1.weight, mlp.fc1.bias)

    def block(self, number: int) -> Block:
        """Return a plain block's parts; raises UnsupportedModel."""
        raise self._lacks(Role.TOKENS)

    def _lacks(self, role: Role) -> UnsupportedModel:
        return UnsupportedModel(
            f"{type(self.backbone).__name__} has not {NAMES[role]}. Choose another victim "
            "(`privbench list models`)."
        )

    def names_of(self, role: Role) -> frozenset[str]:
        """Names of the gradients that show a role; raises UnsupportedModel where none plays it."""
        match role:
            case Role.STEM:
                return frozenset({self.stem.weight_name})
            case Role.POSITIONS if self._table() is not None:
                return frozenset({self.POSITIONS})
            case Role.QKV:
                return frozenset({self.qkv.weight_name})
            case Role.NORM if self.first_norm is not None:
                return frozenset()
            case Role.TOKENS if self.supports(Role.NORM):
                first = self.block(0)
                return first.proj.names | first.fc1.names | first.fc2.names
            case Role.MLP:
                return self.hidden(0).names
        raise self._lacks(role)

    def supports(self, role: Role) -> bool:
        """Whether a part of this victim plays the role."""
        try:
            self.names_of(role)
        except UnsupportedModel:
            return False
        return True
