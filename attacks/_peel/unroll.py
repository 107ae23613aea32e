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

from privbench.attacks._peel.peeling import Peeling, both, slope
from privbench.vit import ViT


@dataclass(frozen=True)
class Unrolled:
    """Tokens that were found, as they entered the first block; float64."""

    entered: Float[Tensor, "t d"]
    """Up to a multiple of the ones, which no norm sees."""
    heads: Float[Tensor, "t d"]
    """What attention gave them."""
    doubt: Float[Tensor, "r d"]
    """Directions in which `heads` may be off, from tokens that are missing; none where all are."""
    scale: Float[Tensor, " t"]
    """Standard deviation of each token behind attention."""
    misfit: float
    """Relative distance of both layers' gradients from what the tokens say they are."""


def unroll(vit: ViT, shared: Mapping[str, Tensor], peeling: Peeling) -> Unrolled:
    """Undo the first block, up to what missing tokens leave open."""
    block, unit, t = peeling.block, peeling.found, peeling.tokens
    z, before, h = peeling.inner(unit)
    ones = torch.ones_like(h[:, :1])
    rows = torch.cat([h, ones], dim=1)
    count = len(unit)
    if peeling.left:  # the rows of what is left stand for the tokens that nobody found
        rows = torch.cat([rows, peeling.rest.hull2.rows])
    raw = torch.linalg.lstsq(rows.T, peeling.second.T, driver="gelsd").solution[:count]  # t d
    u = slope(before) * (raw @ peeling.weight)
    misfit = 0.0
    if not peeling.left:
        gaps = (raw.T @ rows - peeling.second, u.T @ torch.cat([z, ones], 1) - peeling.first)
        wholes = (peeling.second, peeling.first)
        misfit = max(
            float(gap.norm() / whole.norm()) for gap, whole in zip(gaps, wholes, strict=True)
        )
    through = (u @ block.fc1.weight) * block.norm2.weight
    along = (through * unit).mean(1, keepdim=True)
    through = through - through.mean(1, keepdim=True) - unit * along
    direct = raw / _scale(vit, peeling.weight, block.fc2.weight, block.fc2.weight_name)
    last = _scale(vit, None, block.proj.weight, block.proj.weight_name)
    seen = both(shared, block.proj)
    columns = torch.linalg.svd(seen, full_matrices=False).U[:, :t]
    # the token's gradient is direct + through / scale, and the projection sees all of it
    one, other = (x * last - (x * last) @ columns @ columns.T for x in (direct, through))
    inverse = -(one * other).sum(1) / other.square().sum(1)
    gradient = (direct + through * inverse[:, None]) * last
    heads = torch.linalg.lstsq(gradient.T, seen, driver="gelsd").solution  # t d+1
    doubt = heads.new_zeros(0, heads.shape[1] - 1)
    if peeling.left:
        q = torch.linalg.qr(gradient.T).Q
        rest = torch.linalg.svd(seen - q @ (q.T @ seen), full_matrices=False).Vh[: peeling.left]
        toward = rest[:, -1] / rest[:, -1].square().sum()
        heads = heads + (1 - heads[:, -1:]) * (toward @ rest)
        doubt = (torch.linalg.svd(rest[:, -1][None]).Vh[1:] @ rest)[:, :-1]
    heads = heads[:, :-1]
    entered = unit / inverse[:, None] - block.proj(heads)
    return Unrolled(entered, heads, doubt, 1 / inverse, misfit)


def _scale(
    vit: ViT, raw: Tensor | None, folded: Float[Tensor, "d f"], name: str
) -> Float[Tensor, " d"]:
    """Layer scale that the block has folded into a weight, one factor for each row."""
    raw = vit.get_parameter(name).detach().double() if raw is None else raw
    return (folded * raw).sum(1) / raw.square().sum(1)
