"""Equations that a single token of a block satisfies, whatever the other tokens are.

The gradient of a linear layer is a sum of (output gradient)(input)^T over tokens, so its row space
is the span of the inputs, and with the bias gradient as one more column their affine hull. What a
token takes from attention lies in the hull of the projection's inputs; given that, the inputs of
both layers of the MLP follow from the token alone, and each lies in a known hull. So the tokens are
roots of one system that holds no other token.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import gelu

from privbench.roles import Block, Linear

CHUNK = {"cpu": 2**22, "cuda": 2**27}
"""Numbers that a chunk of Jacobians may hold: on a CPU about what its cache does."""
ERROR = 1e-15
"""Squared error of float32 arithmetic, in which clients compute, relative to the result: half an
ulp is 6e-8, its square 3.6e-15, and errors partly cancel. No span is known better."""
WEAKEST = 0.1
"""Smallest spread of what attention adds, along any direction, as a share of the largest."""


@dataclass(frozen=True)
class Hull:
    """Affine hull of a layer's inputs, as far as the update's noise leaves it visible."""

    rows: Float[Tensor, "t f"]
    """Orthonormal; the last column belongs to the bias."""
    doubt: Float[Tensor, " t"]
    """Variance of what a unit along each row leaks into any direction off the hull."""
    codimension: int
    """Directions off the hull: as many equations for each token."""
    affine: bool = True
    """Whether the bias tells; else the rows are of the inputs' span, and zero in the last place."""

    @cached_property
    def points(self) -> tuple[Float[Tensor, " f"], Float[Tensor, "q f"]]:
        """Return the point with the least norm and the directions: those with a one at the end.

        Of a span zero and its rows.
        """
        if not self.affine:
            return torch.zeros_like(self.rows[0, :-1]), self.rows[:, :-1]
        last = self.rows[:, -1]
        point = (last / last.square().sum()) @ self.rows
        along = torch.linalg.svd(last[None], full_matrices=True).Vh[1:] @ self.rows
        return point[:-1], along[:, :-1]

    def residual(self, values: Float[Tensor, "r f"]) -> Float[Tensor, "r f+1"]:
        """Return what of [values, 1] lies off the hull."""
        last = torch.full_like(values[:, :1], float(self.affine))
        both = torch.cat([values, last], dim=1)
        return both - (both @ self.rows.T) @ self.rows

    def residual_of_moves(
        self, moves: Float[Tensor, "r q f"]
    ) -> tuple[Float[Tensor, "r q f"], Float[Tensor, "r q 1"]]:
        """Return what of each move lies off the hull; a move has no part in the ones."""
        flat = moves.flatten(0, 1)
        inside = flat @ self.rows[:, :-1].T
        residual = torch.addmm(flat, inside, self.rows[:, :-1], alpha=-1)
        ones = -(inside @ self.rows[:, -1:])
        return residual.view(moves.shape), ones.view(*moves.shape[:2], 1)

    def variance(self, values: Float[Tensor, "r f"]) -> Float[Tensor, " r"]:
        """Variance of an equation's residual that noise alone explains, for each token."""
        inside = values @ self.rows[:, :-1].T + self.rows[:, -1]
        return inside.square() @ self.doubt + ERROR * (values.square().mean(1) + 1e-30)


class TokenEquations:
    """The first block's equations, from the update's gradients of its layers; float64."""

    def __init__(
        self,
        block: Block,
        shared: Mapping[str, Tensor],
        tokens: int,
        told: Container[str] | None = None,
    ) -> None:
        """Take the gradients; where a defense scaled each by itself, say whose factor is told."""
        self.block = block
        mixed, self.hull1, self.hull2 = (
            _hull(shared, layer, tokens, told) for layer in (block.proj, block.fc1, block.fc2)
        )
        self.equations = self.hull1.codimension + self.hull2.codimension
        self.origin, self.directions = mixed.points  # d, t-1 d

    def attend(self, stream: Float[Tensor, "t d"]) -> Float[Tensor, "t d"]:
        """Return what the heads give each token of a whole sequence, before the projection."""
        return self.block.heads(self.block.norm1(stream)[None])[0]

    def scale(self, heads: Float[Tensor, "t d"]) -> None:
        """Choose coordinates of the heads' hull in which plausible tokens spread by one."""
        inside = (heads - self.origin) @ self.directions.T
        cloud = inside - inside.mean(0)
        values, vectors = torch.linalg.eigh(cloud.T @ cloud / len(cloud))
        spread = values.clamp(min=0).sqrt()
        spread = spread.clamp(min=WEAKEST * float(spread.max()))
        self.unit = spread[:, None] * (vectors.T @ self.directions)  # c d
        self.inverse = (self.directions.T @ vectors) / spread  # d c

    def coordinates(self, heads: Float[Tensor, "t d"]) -> Float[Tensor, "t c"]:
        """Coordinates of what the heads give."""
        return (heads - self.origin) @ self.inverse

    def projected(self, heads: Float[Tensor, "t d"]) -> Float[Tensor, "t d"]:
        """Return what the heads add to their tokens."""
        return self.block.proj(heads)

    @property
    def added(self) -> Float[Tensor, " d"]:
        """What attention adds to a token at coordinates zero."""
        return self.projected(self.origin[None])[0]

    @property
    def moves(self) -> Float[Tensor, "c d"]:
        """What a unit of each coordinate adds to the token."""
        return self.unit @ self.block.proj.weight.T

    def _unit(
        self, stream: Float[Tensor, "r d"], sized: bool
    ) -> tuple[Float[Tensor, "r d"], Float[Tensor, "r 1"]]:
        """Return tokens as the norm leaves them before its gain, and what it divided by.

        Sized ones keep the size that they are given, which the norm made already.
        """
        centered = stream - stream.mean(1, keepdim=True)
        if sized:
            return centered, torch.ones_like(centered[:, :1])
        spread = (centered.square().mean(1, keepdim=True) + self.block.norm2.eps).sqrt()
        return centered / spread, spread

    def _inner(self, stream: Float[Tensor, "r d"], sized: bool = False) -> tuple[Tensor, Tensor]:
        norm = self.block.norm2
        z = self._unit(stream, sized)[0] * norm.weight + norm.bias
        return z, gelu(self.block.fc1(z))

    def variances(
        self, stream: Float[Tensor, "r d"]
    ) -> tuple[Float[Tensor, " r"], Float[Tensor, " r"]]:
        """Return what noise alone explains, for the equations of both layers."""
        z, hidden = self._inner(stream)
        return self.hull1.variance(z), self.hull2.variance(hidden)

    def typical(self, stream: Float[Tensor, "r d"]) -> tuple[float, float]:
        """Return the median of these variances over some tokens."""
        first, second = (float(one.median()) for one in self.variances(stream))
        return first, second

    def cost(
        self, stream: Float[Tensor, "r d"], noise: tuple[float, float], sized: bool = False
    ) -> Float[Tensor, " r"]:
        """Chi square over its degrees of freedom: about 1 for the right token."""
        z, hidden = self._inner(stream, sized)
        first = self.hull1.residual(z).square().sum(1) / noise[0]
        second = self.hull2.residual(hidden).square().sum(1) / noise[1]
        return (first + second) / self.equations

    def pull(
        self, stream: Float[Tensor, "r d"], noise: tuple[float, float], sized: bool = False
    ) -> Float[Tensor, "r d"]:
        """Half gradient of the cost in the tokens; next to the whole model it costs nothing."""
        norm = self.block.norm2
        unit, spread = self._unit(stream, sized)
        z = unit * norm.weight + norm.bias
        inner = self.block.fc1(z)
        second = self.hull2.residual(gelu(inner))[:, :-1] / noise[1]
        first = self.hull1.residual(z)[:, :-1] / noise[0]
        back = (first + (second * slope(inner)) @ self.block.fc1.weight) * norm.weight
        along = (back * unit).mean(1, keepdim=True) * (not sized)
        return (back - back.mean(1, keepdim=True) - along * unit) / (spread * self.equations)

    def model(
        self,
        stream: Float[Tensor, "r d"],
        directions: Float[Tensor, "q d"],
        noise: tuple[float, float],
        sized: bool = False,
    ) -> tuple[Float[Tensor, "r q"], Float[Tensor, "r q q"]]:
        """Half gradient and Gauss-Newton matrix of the cost, for moves along the directions."""
        size = max(1, CHUNK[stream.device.type] // (len(directions) * 2 * self.hull2.rows.shape[1]))
        parts = [self._model(part, directions, noise, sized) for part in stream.split(size)]
        return torch.cat([g for g, _ in parts]), torch.cat([h for _, h in parts])

    def _model(
        self,
        stream: Float[Tensor, "r d"],
        directions: Float[Tensor, "q d"],
        noise: tuple[float, float],
        sized: bool,
    ) -> tuple[Float[Tensor, "r q"], Float[Tensor, "r q q"]]:
        gain, shift = self.block.norm2.weight, self.block.norm2.bias
        unit, spread = self._unit(stream, sized)  # r d
        moves = directions - directions.mean(1, keepdim=True)  # q d
        along = unit @ moves.T / stream.shape[1] * (not sized)  # r q
        inner = self.block.fc1(unit * gain + shift)
        first, second = (1 / (one * self.equations) for one in noise)
        # the norm's slope is one matrix for all rows plus one of rank one for each
        row, own = moves * gain, unit * gain / spread  # q d, r d
        h1, inside1 = self.hull1, row @ self.hull1.rows[:, :-1].T
        apart1 = h1.residual(unit * gain + shift)[:, :-1]
        gradient = first * (apart1 @ row.T / spread - along * (apart1 * own).sum(1, keepdim=True))
        inside = inside1 / spread[..., None] - _outer(along, own @ h1.rows[:, :-1].T)
        cross = _outer(own @ row.T / spread, along)
        size = own.square().sum(1)[:, None, None]
        matrix = (row @ row.T) / spread.square()[..., None] - cross - cross.mT
        matrix = torch.baddbmm(matrix + size * _outer(along, along), inside, inside.mT, alpha=-1)
        matrix *= first
        # fc1 after the norm, likewise, and each row's own slope of GELU
        bend = slope(inner)
        wide, ahead = row @ self.block.fc1.weight.T, own @ self.block.fc1.weight.T  # q 4d, r 4d
        ahead, wide = ahead * bend, wide * (bend / spread)[:, None]  # r 4d, r q 4d
        # what lies off the hull sees of a move only what does as well
        apart2 = self.hull2.residual(gelu(inner))[:, :-1]
        seen, cross = (wide @ torch.stack([apart2, ahead], dim=2)).unbind(2)
        gradient += second * (seen - along * (apart2 * ahead).sum(1, keepdim=True))
        rows = self.hull2.rows[:, :-1]
        # the long side last: this way around BLAS is half as fast again
        inside = (rows @ wide.flatten(0, 1).T).unflatten(1, along.shape).transpose(0, 1)  # r t q
        inside = inside - _outer(ahead @ rows.T, along)
        cross = _outer(cross - along * (0.5 * ahead.square().sum(1, keepdim=True)), along)
        matrix -= second * (cross + cross.mT)
        matrix.baddbmm_(wide, wide.mT, alpha=second)
        return gradient, matrix.baddbmm_(inside.mT, inside, alpha=-second)


def _outer(one: Float[Tensor, "r q"], other: Float[Tensor, "r e"]) -> Float[Tensor, "r q e"]:
    return one[..., None] * other[:, None]


def joined(
    shared: Mapping[str, Tensor], layer: Linear, told: Container[str] | None
) -> tuple[Float[Tensor, "g e"], bool]:
    """Gradient of a layer's weight with the bias's as one more column, float64; if that tells.

    Where a defense scaled each by itself, and nothing tells both factors, the column is zero.
    """
    weight, bias = shared[layer.weight_name], shared[layer.bias_name]
    tells = told is None or all(name in told for name in (layer.weight_name, layer.bias_name))
    return torch.cat([weight, float(tells) * bias[:, None]], dim=1).double(), tells


def slope(values: Float[Tensor, "r f"]) -> Float[Tensor, "r f"]:
    """Return the derivative of GELU."""
    bell = torch.exp(-values.square() / 2) / (2 * torch.pi) ** 0.5
    return 0.5 * (1 + torch.erf(values / 2**0.5)) + values * bell


def _hull(
    shared: Mapping[str, Tensor], layer: Linear, tokens: int, told: Container[str] | None
) -> Hull:
    both, affine = joined(shared, layer, told)
    _, s, rows = torch.linalg.svd(both, full_matrices=False)
    width = both.shape[1] - (not affine)
    t = min(tokens, len(s), width)
    # what is left after all the tokens is noise, alike in all entries
    left = max(1, (both.shape[0] - t) * (width - t))
    noise = s[t:].square().sum() / left
    floor = ERROR * s[0].square()
    doubt = noise / s[:t].square().clamp(min=float(torch.maximum(noise, floor)))
    return Hull(rows[:t], doubt, width - t, affine)
