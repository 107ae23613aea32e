"""What the first block's MLP shows of the tokens, and how a found one is taken out of its update.

The gradients of the two layers are G1 = sum u z^T and G2 = sum g h^T over all tokens: z enters the
MLP, h = gelu(W1 z + b1), g is the loss's gradient at the token, and u = gelu'(W1 z + b1) (W2^T g).
So h lies in the row space of G2, z in that of G1. For a z that is found, g is the one direction in
the column space of G2 whose u lies in the column space of G1; what is orthogonal to both holds the
other tokens alone, each of which is easier to find than before (privbench's derivation,
docs/math/batches.md).
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import gelu

from privbench.attacks._span.levenberg import solve
from privbench.attacks._span.tokens import ERROR, TokenEquations, joined, slope
from privbench.roles import Block
from privbench.vit import ViT

CLEAR = 10.0
"""Factor between the two directions that fit a found token best, below which neither is taken."""
ODD = 30.0
"""Chi square from which a token may be one whose size the norm keeps."""
HELD = 12
"""Steps of the last approach for which a token's curvature is held."""
EDGE = 2.0
"""Factor over the largest singular value of noise alone from which one is a token's."""


@dataclass(frozen=True)
class Columns:
    """Column space of a gradient, as far as it stands out of the noise."""

    basis: Float[Tensor, "f t"]
    doubt: Float[Tensor, " t"]
    """Variance of what a unit along each column leaks into any direction off the space."""


@dataclass(frozen=True)
class Split:
    """Singular vectors and values of a gradient; the costliest thing here, so made once."""

    left: Float[Tensor, "g k"]
    sizes: Float[Tensor, " k"]
    shape: tuple[int, int]

    def columns(self, tokens: int) -> Columns:
        """Return the column space of so many tokens."""
        s, (height, width) = self.sizes, self.shape
        t = min(tokens, len(s))
        left = max(1, (height - t) * (width - t))
        noise = s[t:].square().sum() / left
        floor = ERROR * s[0].square()
        size = s[:t].square().clamp(min=float(torch.maximum(noise, floor)))
        return Columns(self.left[:, :t], torch.maximum(noise, floor / left) / size)


class Peeling:
    """Tokens that are found, and the update without them; float64."""

    def __init__(
        self,
        vit: ViT,
        shared: Mapping[str, Tensor],
        tokens: int,
        told: Container[str] | None = None,
    ) -> None:
        """Take the gradients; where a defense scaled each by itself, say whose factor is told."""
        self.block: Block = vit.block(0)
        self.shared, self.told = dict(shared), told
        self.first, _ = joined(shared, self.block.fc1, told)
        self.second, _ = joined(shared, self.block.fc2, told)
        split = [_split(one) for one in (self.first, self.second)]
        # equal tokens are one, and some may weigh less than the noise
        self.tokens = tokens = max(visible(one.sizes, one.shape, tokens) for one in split)
        self.whole = TokenEquations(self.block, shared, tokens, told)
        self.into, self.out = (one.columns(tokens) for one in split)
        # a layer scale multiplies the rows of the weight that the block has folded it into
        self.weight = vit.get_parameter(self.block.fc2.weight_name).detach().double()
        self.found = self.first.new_zeros(0, self.first.shape[1] - 1)
        """Tokens as the norm before the MLP leaves them, without its gain and shift."""
        self.known = self.found.new_zeros(0, len(self.second))  # g, up to its size
        self.behind = self.found.new_zeros(0, len(self.first))  # u, likewise
        self.rest = self.whole
        """Equations of the tokens that are not found."""

    @property
    def left(self) -> int:
        """How many tokens are missing."""
        return self.tokens - len(self.found)

    def inner(self, unit: Float[Tensor, "r d"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return z, W1 z + b1 and h of tokens as the norm sees them."""
        z = unit * self.block.norm2.weight + self.block.norm2.bias
        before = self.block.fc1(z)
        return z, before, gelu(before)

    def surprise(self, unit: Float[Tensor, "r d"]) -> Float[Tensor, " r"]:
        """Chi square over its degrees of freedom in the whole update: about 1 for a token."""
        z, before, h = self.inner(unit)
        whole = self.whole
        near = whole.hull1.variance(z)
        # z is where its hull puts it; by how much that is off moves h as well
        gain = (slope(before).square() @ self.block.fc1.weight.square().sum(1)) / before.shape[1]
        off = whole.hull2.variance(h) + near * gain
        first = whole.hull1.residual(z).square().sum(1) / near
        second = whole.hull2.residual(h).square().sum(1) / off
        return (first + second) / whole.equations

    def polish(self, unit: Float[Tensor, "r d"], steps: int) -> Float[Tensor, "r d"]:
        """Return the nearest roots of the whole update's equations, in all directions.

        Of a token that is next to nothing the norm keeps its size, by what keeps it from dividing
        by zero; the class token of an untrained model is one.
        """
        near = standard(self._polish(unit, steps), self.block.norm2.eps)
        doubt = self.surprise(near)
        odd = (doubt > ODD).nonzero().flatten()
        if len(odd):
            again = self._polish(near[odd], steps, sized=True)
            again = again - again.mean(1, keepdim=True)
            better = (self.surprise(again) < doubt[odd]) & (again.square().mean(1) < 1)
            near[odd[better]] = again[better]
        return near

    def _polish(
        self, stream: Float[Tensor, "r d"], steps: int, sized: bool = False
    ) -> Float[Tensor, "r d"]:
        n, d = stream.shape
        free = torch.eye(d).to(stream)
        noise = self.whole.typical(stream)
        bend = stream.new_empty(n, d, d)
        age = torch.zeros(n, dtype=torch.long, device=stream.device)

        def model(at: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            # so near a root the curvature hardly changes, and it costs far more than the slope
            old = age[rows] % HELD == 0
            if old.any():
                bend[rows[old]] = self.whole.model(at[old], free, noise, sized)[1]
            age[rows] += 1
            return self.whole.pull(at, noise, sized), bend[rows]

        return solve(lambda at, _: self.whole.cost(at, noise, sized), model, stream, steps, 1e-3).at

    def take(self, unit: Float[Tensor, " d"]) -> bool:
        """Take a found token out of the update; whether that could be done."""
        _, before, _ = self.inner(unit[None])
        bend = slope(before)[0]
        seen = bend[:, None] * (self.weight.T @ self.out.basis)  # f t
        inside = self.into.basis.T @ seen
        apart = seen - self.into.basis @ inside
        # what noise alone puts there: of the second layer's columns, and of the first layer's
        off = max(1, len(self.weight) - self.tokens)
        size = float((bend[:, None] * self.weight.T).square().sum()) * off / len(self.weight)
        noise = size * torch.diag(self.out.doubt)
        noise += len(bend) * inside.T @ (self.into.doubt[:, None] * inside)
        noise += ERROR * seen.T @ seen
        chosen = _lowest(apart, torch.linalg.cholesky(noise))
        if chosen is None:  # columns that are next to noise may pass for anything: all alike then
            chosen = _lowest(apart, torch.eye(len(noise)).to(noise))
        if chosen is None and self.left > 1:
            return False
        g = self.out.basis @ (torch.ones_like(noise[0]) if chosen is None else chosen)
        u = bend * (self.weight.T @ g)
        self.found = torch.cat([self.found, unit[None]])
        self.known = torch.cat([self.known, g[None] / g.norm()])
        self.behind = torch.cat([self.behind, u[None] / u.norm()])
        return True

    def refresh(self) -> None:
        """Look at the update without what was taken out of it."""
        if not self.left:
            return
        for layer, gradient, taken in (
            (self.block.fc1, self.first, self.behind),
            (self.block.fc2, self.second, self.known),
        ):
            q = torch.linalg.qr(taken.T).Q
            kept = gradient - q @ (q.T @ gradient)
            self.shared[layer.weight_name], self.shared[layer.bias_name] = kept[:, :-1], kept[:, -1]
        self.rest = TokenEquations(self.block, self.shared, self.left, self.told)


def _lowest(apart: Float[Tensor, "f t"], unit: Float[Tensor, "t t"]) -> Float[Tensor, " t"] | None:
    """Return the one direction that is sent to next to nothing, in these units; None if two are."""
    spread = torch.linalg.solve_triangular(unit, apart.T, upper=False).T
    _, s, rows = torch.linalg.svd(spread, full_matrices=False)
    if len(s) > 1 and not s[-2] > CLEAR * s[-1]:
        return None
    return torch.linalg.solve_triangular(unit.T, rows[-1:].T, upper=True)[:, 0]


def visible(s: Float[Tensor, " k"], shape: tuple[int, int], most: int) -> int:
    """Rank of a gradient with these singular values, as far as it stands out of its noise."""
    rank, (height, width) = min(most, len(s)), shape
    while rank > 1:
        high, wide = height - rank, width - rank
        noise = (s[rank:].square().sum() / max(1, high * wide)).sqrt()
        # a matrix of noise alone has its largest singular value there
        if s[rank - 1] > EDGE * noise * (high**0.5 + wide**0.5):
            break
        rank -= 1
    return rank


def standard(tokens: Float[Tensor, "r d"], eps: float = 0.0) -> Float[Tensor, "r d"]:
    """Tokens as a LayerNorm leaves them: of mean zero and mean square one, or a little less."""
    centered = tokens - tokens.mean(1, keepdim=True)
    return centered / (centered.square().mean(1, keepdim=True) + eps).sqrt()


def _split(gradient: Float[Tensor, "g f"]) -> Split:
    left, sizes, _ = torch.linalg.svd(gradient, full_matrices=False)
    height, width = gradient.shape
    return Split(left, sizes, (height, width))
