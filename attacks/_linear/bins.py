"""Weights that turn a stock ViT's hidden units into bins, and where its stream holds what."""

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.models.vision_transformer import Block
from torch import Generator, Tensor, nn

from privbench.errors import UnsupportedModel
from privbench.observation import PublicModel
from privbench.roles import Role
from privbench.vit import ViT

UNKNOWN = "unknown_embed"
"""Embedding that masking schemes share among patches; those then have no place."""
GAIN = 200.0
"""Steepness of a bin's edge, per unit of u; set by reason."""
OUTPUT = 1e-3
"""What an active unit writes to the junk entry, in units of the stream; set by reason."""
MARKS = 16
"""Entries of the stream that hold the mark of an image, at most; set by reason."""
EDGE = 0.1
"""Share of a place's range that stays empty at both ends, so that black and white are inside."""


@dataclass(frozen=True)
class Layers:
    """What a stock block is made of, as far as the weights below concern it."""

    norms: tuple[nn.LayerNorm, nn.LayerNorm]
    qkv: nn.Linear
    proj: nn.Linear
    fc1: nn.Linear
    fc2: nn.Linear
    scales: tuple[nn.Parameter, ...]
    """Of the residual branches, where the model has them."""


@dataclass(frozen=True)
class Layout:
    """Where the stream holds what, and which bins there are."""

    side: int
    """Of a patch, as far as the width can hold it."""
    pool: int
    """Factor by which patches are made smaller."""
    places: int
    """Patches of a picture; place i has u from i + 1 to i + 2, an unknown one from 0 to 1."""
    first: int
    """Lowest u that has bins: 0 if a defense can hide places, else 1."""
    share: int
    """Bins of each place."""
    blocks: int
    """Blocks whose MLPs hold bins: all but the last, which carries the gradient to the tokens."""
    width: int
    eps: float
    """Of the LayerNorm before the bins."""
    constant: float = 1.0

    @property
    def values(self) -> int:
        """Pixels of a patch, the first entries of the stream."""
        return 3 * self.side**2

    @property
    def high(self) -> int:
        """Entry that is the constant; the next one is its negative."""
        return self.values

    @property
    def low(self) -> int:
        """Entry that is minus the constant."""
        return self.values + 1

    @property
    def place(self) -> int:
        """Entry that holds (place + 1) / places, or 0 where it is unknown."""
        return self.values + 2

    @property
    def junk(self) -> int:
        """Entry that all bins write to."""
        return self.values + 3

    @property
    def marks(self) -> slice:
        """Entries that are alike for all tokens of an image."""
        return slice(self.values + 4, min(self.values + 4 + MARKS, self.width))

    @property
    def bins(self) -> int:
        """Units in use."""
        return (self.places + 1 - self.first) * self.share

    @property
    def signs(self) -> Float[Tensor, " k"]:
        """Signs of what the units write; in fours their sum stays small for all u."""
        return torch.tensor([1.0, -1.0, -1.0, 1.0]).repeat(self.bins // 4 + 1)[: self.bins]

    def slot(self, k: int) -> int:
        """Whole part of u in bin k."""
        return self.first + k // self.share

    def edges(self) -> Float[Tensor, " k"]:
        """Lower ends of the bins."""
        return self.first + torch.arange(self.bins) / self.share

    def constants(self) -> Float[Tensor, " d"]:
        """Return what every token holds."""
        row = torch.zeros(self.width)
        row[self.high], row[self.low] = self.constant, -self.constant
        return row

    def fits(self, vit: ViT) -> bool:
        """Whether these are the weights of `tampered`."""
        bias = vit.stem.bias
        if bias is None or self.blocks < 1:
            return False
        ours = self.constants().to(bias)
        return bool(torch.equal(bias[self.values :], ours[self.values :]))


def layers(vit: ViT) -> list[Layers]:
    """Return the blocks' layers; raises UnsupportedModel where they are not those of a stock ViT.

    Stock: LayerNorms before attention and MLP, residuals around both, nothing normalized or gated
    in between, and nothing before the first block.
    """
    plain = vit.supports(Role.NORM)
    found = [_stock(block) for block in vit.backbone.blocks]
    stock = [one for one in found if one is not None]
    if not plain or len(stock) < len(found):
        raise UnsupportedModel(
            "imprint needs the blocks of a stock ViT: LayerNorm, attention, LayerNorm and MLP, "
            "with residuals. Choose another victim (`privbench list models`)."
        )
    return stock


def _stock(block: nn.Module) -> Layers | None:
    if type(block) is not Block:
        return None
    norms, attention, mlp = (block.norm1, block.norm2), block.attn, block.mlp
    if type(attention) is not Attention or type(mlp) is not Mlp:
        return None
    inner = (attention.norm, mlp.norm)
    if getattr(attention, "gate", None) or not all(isinstance(o, nn.Identity) for o in inner):
        return None
    before, behind = norms
    if not isinstance(before, nn.LayerNorm) or not isinstance(behind, nn.LayerNorm):
        return None
    fc1, fc2 = mlp.fc1, mlp.fc2
    if not isinstance(fc1, nn.Linear) or not isinstance(fc2, nn.Linear):
        return None
    gammas = (getattr(scale, "gamma", None) for scale in (block.ls1, block.ls2))
    scales = tuple(one for one in gammas if isinstance(one, nn.Parameter))
    return Layers((before, behind), attention.qkv, attention.proj, fc1, fc2, scales)


def layout(vit: ViT) -> Layout:
    """Plan for a model; patches are made smaller until they fit into the width.

    Raises UnsupportedModel.
    """
    width, patch, blocks = vit.width, vit.patch, layers(vit)
    pool = 1
    while patch % (2 * pool) == 0 and 3 * (patch // pool) ** 2 + 6 > width:
        pool *= 2
    first = 0 if hasattr(vit, UNKNOWN) else 1
    places = vit.grid**2
    share = blocks[0].fc1.out_features // (places + 1 - first)
    eps = blocks[0].norms[1].eps
    return Layout(patch // pool, pool, places, first, share, len(blocks) - 1, width, eps)


def tampered(model: PublicModel, rng: Generator) -> PublicModel:
    """Return a model of the same shapes whose hidden units are bins; raises UnsupportedModel."""
    vit = copy.deepcopy(model.vit)
    plan = layout(vit)
    if not vit.positions.requires_grad or vit.stem.bias is None:
        raise UnsupportedModel(
            "imprint writes places into trained position embeddings, and this model has none."
        )
    if plan.blocks < 1 or plan.share < 1 or plan.marks.start + 1 >= plan.width:
        raise UnsupportedModel(
            "imprint needs two blocks, a hidden unit for each patch, and a width above that of a "
            "small patch. Choose a larger model."
        )
    with torch.no_grad():
        _embed_pixels(vit, plan)
        for number, block in enumerate(layers(vit)):
            _attend_evenly(block.qkv)
            if number == plan.blocks:
                continue
            for norm in block.norms:
                norm.weight.fill_(1)
                norm.bias.zero_()
            for scale in block.scales:
                scale.fill_(1)
            _zero(block.qkv, block.proj)
            if number == 0:
                _mark_images(block, plan, rng)
            _fill_bins(block, plan, number)
    return PublicModel(vit, model.defense)


def _zero(*layers: nn.Linear) -> None:
    for layer in layers:
        layer.weight.zero_()
        if layer.bias is not None:
            layer.bias.zero_()


def _embed_pixels(vit: ViT, plan: Layout) -> None:
    """Pixels in [0, 1], constants and places into the tokens."""
    embed = vit.backbone.patch_embed.proj
    embed.weight.zero_()
    entry, pool = 0, plan.pool
    bias = plan.constants().to(embed.bias)
    for channel in range(3):
        for y in range(plan.side):
            for x in range(plan.side):
                block = embed.weight[
                    entry, channel, pool * y : pool * (y + 1), pool * x : pool * (x + 1)
                ]
                block.fill_(float(vit.std[0, channel, 0, 0]) / pool**2)
                bias[entry] = vit.mean[0, channel, 0, 0]
                entry += 1
    embed.bias.copy_(bias)
    vit.positions.zero_()
    places = torch.arange(1, plan.places + 1).to(embed.bias) / plan.places
    vit.positions[0, vit.prefix :, plan.place] = places
    if hasattr(vit, UNKNOWN):
        vit.get_parameter(UNKNOWN).zero_()
    for token in vit.before:
        token.copy_(plan.constants().to(token).expand_as(token))
        token[..., plan.place] = -1  # below all bins


def _attend_evenly(qkv: nn.Linear) -> None:
    """Let every token attend to all alike."""
    width = qkv.out_features // 3
    qkv.weight[: 2 * width] = 0
    if qkv.bias is not None:
        qkv.bias[: 2 * width] = 0


def _mark_images(block: Layers, plan: Layout, rng: Generator) -> None:
    """Write random projections of the mean patch into all tokens of an image."""
    count = plan.marks.stop - plan.marks.start
    values = block.qkv.weight[2 * (block.qkv.out_features // 3) :]
    drawn = torch.randn(count, plan.values, generator=rng) / plan.values**0.5
    values[:count, : plan.values] = drawn.to(values)
    for number in range(count):
        block.proj.weight[plan.marks.start + number, number] = 1


def _fill_bins(block: Layers, plan: Layout, number: int) -> None:
    """Let unit k be active where u = place + a pixel is above the k-th edge.

    Rows are homogeneous in the constants and sum to zero, so that the LayerNorm before decides
    nothing about the sign. The first block takes the mean of all pixels; each later one takes
    another single pixel, which tells other tokens apart.
    """
    _zero(block.fc1, block.fc2)
    weight = torch.zeros(plan.width)
    weight[plan.place] = plan.places
    if number == 0:
        weight[: plan.values] = (1 - 2 * EDGE) / plan.values
    else:
        pixel = (number * plan.values) // plan.blocks + plan.side
        weight[pixel % plan.values] = 1 - 2 * EDGE
    rows = weight.repeat(plan.bins, 1)
    total, offset = weight.sum(), (EDGE - plan.edges()) / plan.constant
    rows[:, plan.high] = (offset - total) / 2
    rows[:, plan.low] = (-offset - total) / 2
    block.fc1.weight[: plan.bins] = (GAIN * rows).to(block.fc1.weight)
    block.fc2.weight[plan.junk, : plan.bins] = OUTPUT * plan.signs.to(block.fc2.weight)
