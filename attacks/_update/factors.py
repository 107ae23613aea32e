"""Factors of tensors against each other, where a defense scales each by itself.

A plain ViT computes the same if all that its blocks hand on is turned by a rotation that keeps the
all-ones vector, as its LayerNorms see neither: what writes tokens is turned with them, what reads
them turned back. So the gradient has no slope along any such turn, which is one equation for each
plane, linear in the tensors: with d^2 / 2 of them a few dozen factors are overdetermined. No
picture, no label. What is not shared may write as well: turns that leave it alone are left.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from timm.layers.mlp import Mlp
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from privbench.roles import Linear, Role
from privbench.variants import FirstBlock
from privbench.vit import ViT

FITS, SURE = 0.3, 0.05
"""How much of what any other factors leave unexplained these may leave, and the share that each
may be wrong by; set by reason."""
FAINT = 1e-7
"""Size of a tensor's part, relative to the largest, below which it is rounding."""
ADDED = "added"
"""Stands for what a penalty adds, which nobody scaled."""

OTHERS = frozenset({"unknown_embed"})
"""What masking schemes add in the place of positions."""

Part = Float[Tensor, "d d"]
"""Slope of the loss along each map of tokens."""


def factors(
    vit: ViT, shared: Mapping[str, Tensor], added: Mapping[str, Tensor]
) -> dict[str, float]:
    """Return what to multiply tensors by, so that they have one common factor.

    As far as the turns tell; empty where they do not, as behind too much noise, or in a network
    that is not a plain ViT. What a penalty adds to the position gradient is no part of the slope.
    """
    if not vit.supports(Role.STEM) or (read := _readers(vit)) is None:
        return {}
    free, d = read[0][0] is None, vit.width
    if not all(reader[1].names <= shared.keys() for reader in read):
        return {}
    norms = {name: float(t.double().norm()) or 1.0 for name, t in shared.items()}
    shared = {name: t.double() / norms[name] for name, t in shared.items()}
    parts, still = _written(vit, shared), [vit.mean.new_ones(d, 0 if free else 1).double()]
    for norm, layer in read:
        parts |= _read(norm, layer, shared)
    if ViT.POSITIONS in added and ViT.POSITIONS in shared:
        parts[ADDED] = -_rows(added[ViT.POSITIONS]) @ _rows(vit.positions).T
    still += [w for name, w in _writers(vit) if name not in shared]
    u, s, _ = torch.linalg.svd(torch.cat(still, dim=1))
    turned = u[:, int((s > FAINT * s.sum()).sum()) :]  # d k, what a turn may move

    def seen(part: Part) -> Tensor:
        inside = turned.T @ part @ turned
        return (inside if free else inside - inside.T).flatten()

    columns = {name: seen(part) for name, part in parts.items()}
    sizes = {name: float(column.norm()) for name, column in columns.items()}
    largest = max(sizes.values())
    kept = [name for name, size in sizes.items() if size > FAINT * largest]
    if ViT.PROJECTION not in kept or len(kept) < 2 or not math.isfinite(largest):
        return {}
    system = torch.stack([columns[name] / sizes[name] for name in kept], dim=1)
    _, s, vh = torch.linalg.svd(system, full_matrices=False)
    if len(s) < len(kept) or not s[-1] < FITS * s[-2]:
        return {}
    own = vh[-1] if vh[-1, kept.index(ViT.PROJECTION)] > 0 else -vh[-1]
    # what the equations leave, over all of them, is noise: it moves each factor by so much
    noise = float(s[-1]) / turned.shape[1]
    doubt = noise * (vh[:-1] / s[:-1, None]).norm(dim=0)
    found = {
        name: float(x) / (sizes[name] * norms[name])
        for name, x, error in zip(kept, own, doubt, strict=True)
        if name != ADDED and x * SURE > error
    }
    one = found.get(ViT.PROJECTION)
    return {} if one is None else {name: x / one for name, x in found.items()}


def _rows(table: Tensor) -> Float[Tensor, "d q"]:
    """Vectors of a table, as columns."""
    return table.detach().double().flatten(0, -2).T


def _writers(vit: ViT) -> Iterator[tuple[str, Float[Tensor, "d q"]]]:
    """Yield what is added to tokens, by name; columns are vectors of tokens."""
    names = {id(p): name for name, p in vit.named_parameters()}
    for table in (vit.positions, *vit.before):
        yield names.get(id(table), "table"), _rows(table)
    for name in OTHERS & set(names.values()):
        yield name, _rows(vit.get_parameter(name))
    for layer, gain in _adding(vit):
        gain = layer.weight.new_ones(vit.width) if gain is None else gain
        yield layer.weight_name, (gain[:, None] * layer.weight).detach().double()
        if layer.bias is not None:
            yield layer.bias_name, (gain * layer.bias)[:, None].detach().double()


def _written(vit: ViT, shared: Mapping[str, Tensor]) -> dict[str, Part]:
    """Slopes along turns of what writes tokens."""
    gains = {name: gain for layer, gain in _adding(vit) for name in layer.names}
    parts = {}
    for name, wide in _writers(vit):
        if name not in shared:
            continue
        gradient = shared[name].double()
        if name not in gains:
            gradient = _rows(gradient)
        elif (gain := gains[name]) is not None:
            gradient = gradient.reshape(wide.shape) / gain.detach().double()[:, None]
        parts[name] = gradient.reshape(wide.shape) @ wide.T
    return parts


def _adding(vit: ViT) -> Iterator[tuple[Linear, Tensor | None]]:
    """Yield the layers that add to tokens, and their layer scales."""
    yield vit.stem, None
    for number, block in enumerate(vit.backbone.blocks):
        if isinstance(block, FirstBlock):
            return
        ends = ((block.attn.proj, "attn.proj", block.ls1), (block.mlp.fc2, "mlp.fc2", block.ls2))
        for layer, name, scale in ends:
            yield _linear(layer, number, name), getattr(scale, "gamma", None)


def _linear(layer: Any, number: int, name: str) -> Linear:
    return Linear(f"{ViT.BACKBONE}blocks.{number}.{name}", layer.weight, layer.bias)


def _readers(vit: ViT) -> list[tuple[nn.LayerNorm | None, Linear]] | None:
    """Return what reads tokens, and the norm between; None where that is not a plain ViT's.

    Tokens that a block reads as they are, as APRIL's first one does, may be mapped by any matrix.
    """
    found: list[tuple[Any, Linear]] = []
    block: Any
    for number, block in enumerate(vit.backbone.blocks):
        if isinstance(block, FirstBlock):
            return [(None, _linear(block.attn.qkv, number, "attn.qkv"))]
        if type(block) is not Block or type(block.mlp) is not Mlp:
            return None
        found.append((block.norm1, _linear(block.attn.qkv, number, "attn.qkv")))
        found.append((block.norm2, _linear(block.mlp.fc1, number, "mlp.fc1")))
    last = [getattr(vit.backbone, name, None) for name in ("norm", "fc_norm")]
    norms = [norm for norm in last if not isinstance(norm, nn.Identity | None)]
    if len(norms) != 1 or len(vit.heads) != 1:
        return None
    found.append((norms[0], Linear(f"{ViT.BACKBONE}head", vit.heads[0].weight, vit.heads[0].bias)))
    return found if all(isinstance(norm, nn.LayerNorm) for norm, _ in found) else None


def _read(
    norm: nn.LayerNorm | None, layer: Linear, shared: Mapping[str, Tensor]
) -> dict[str, Part]:
    """Slopes along turns of what reads tokens: the norm's shift is no token, and stays."""
    weight = layer.weight.detach().double()
    inside = weight.T @ shared[layer.weight_name].double()
    if norm is None:
        return {layer.weight_name: -inside}
    gain, shift = norm.weight.detach().double(), norm.bias.detach().double()
    found = {layer.weight_name: -gain[:, None] * inside / gain}
    if layer.bias is not None:
        moved = weight.T @ shared[layer.bias_name].double()
        found[layer.bias_name] = torch.outer(gain * moved, shift / gain)
    return found
