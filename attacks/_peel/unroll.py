"""From tokens as the MLP's norm leaves them back to tokens as they enter the network.

What each token's gradient is follows from both layers of the MLP but for the scale that the norm
took away; and that the projection behind attention sees it in its column space tells the scale.
With all these gradients, the projection's own gradient tells what attention gave each token.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from privbench.attacks._peel.peeling import Peeling
from privbench.attacks._span.tokens import ERROR, joined, slope
from privbench.roles import Linear
from privbench.vit import ViT

ROUNDS = 5
"""Of estimating how much tokens differ along with what attention gave."""


@dataclass(frozen=True)
class Unrolled:
    """Tokens that were found, as they entered the first block; float64."""

    unit: Float[Tensor, "t d"]
    """As the norm before the MLP leaves them."""
    entered: Float[Tensor, "t d"]
    """Up to a multiple of the ones, which no norm sees, and to what `doubt` lets pass."""
    heads: Float[Tensor, "t d"]
    """What attention gave them."""
    doubt: Float[Tensor, " t"]
    """Standard deviation of the heads in any direction that tokens differ in."""
    scale: Float[Tensor, " t"]
    """Standard deviation of each token behind attention."""


def unroll(vit: ViT, shared: Mapping[str, Tensor], peeling: Peeling) -> Unrolled:
    """Undo the first block, up to what missing tokens leave open."""
    block, unit, t = peeling.block, peeling.found, peeling.tokens
    _, before, h = peeling.inner(unit)
    rows = torch.cat([h, torch.ones_like(h[:, :1])], dim=1)
    count = len(unit)
    if peeling.left:  # the rows of what is left stand for the tokens that nobody found
        rows = torch.cat([rows, peeling.rest.hull2.rows])
    raw = torch.linalg.lstsq(rows.T, peeling.second.T, driver="gelsd").solution[:count]  # t d
    u = slope(before) * (raw @ peeling.weight)
    through = (u @ block.fc1.weight) * block.norm2.weight
    along = (through * unit).mean(1, keepdim=True)
    through = through - through.mean(1, keepdim=True) - unit * along
    direct, last = raw / _scale(vit, block.fc2), _scale(vit, block.proj)
    seen, _ = joined(shared, block.proj, peeling.told)
    columns = torch.linalg.svd(seen, full_matrices=False).U[:, :t]
    # the token's gradient is direct + through / scale, and the projection sees all of it
    one, other = (x * last - (x * last) @ columns @ columns.T for x in (direct, through))
    inverse = -(one * other).sum(1) / other.square().sum(1)
    gradient = (direct + through * inverse[:, None]) * last
    heads, doubt = _heads(gradient, seen)
    return Unrolled(unit, unit / inverse[:, None] - block.proj(heads), heads, doubt, 1 / inverse)


def _heads(
    gradient: Float[Tensor, "t d"], seen: Float[Tensor, "d e"]
) -> tuple[Float[Tensor, "t h"], Float[Tensor, " t"]]:
    """Estimate what attention gave each token, and how well that is known.

    The projection's gradient is the sum of the tokens' gradients times it, and gradients are much
    alike: where they hardly differ, the mean over all tokens is the better guess.
    """
    weight, bias = seen[:, :-1], seen[:, -1]
    # without a bias that tells, around zero
    middle = bias @ weight / bias.square().sum().clamp(min=torch.finfo(bias.dtype).tiny)
    gap = weight - gradient.sum(0)[:, None] * middle  # d h
    values, vectors = torch.linalg.eigh(gradient @ gradient.T)
    values = values.clamp(min=0)
    told = vectors.T @ (gradient @ gap)  # t h
    basis = torch.linalg.qr(gradient.T).Q
    outside = (gap - basis @ (basis.T @ gap)).square().mean()
    noise = outside * len(gap) / max(1, len(gap) - len(gradient))
    noise = noise.clamp(min=ERROR * float(weight.square().mean()))
    spread = weight.square().mean() / gradient.square().mean()
    for _ in range(ROUNDS):
        variance = 1 / (values / noise + 1 / spread)
        spread = (variance[:, None] * told / noise).square().mean() + variance.mean()
    variance = 1 / (values / noise + 1 / spread)
    around = variance[:, None] * told / noise
    doubt = (vectors.square() @ variance).sqrt()
    return middle + vectors @ around, doubt


def _scale(vit: ViT, layer: Linear) -> Float[Tensor, " d"]:
    """Layer scale that the block has folded into a weight, one factor for each row."""
    raw = vit.get_parameter(layer.weight_name).detach().double()
    return (layer.weight * raw).sum(1) / raw.square().sum(1)
