"""Systems of token equations as they are handed to the solver, and where these end."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from privbench.attacks._span.tokens import TokenEquations


@dataclass(frozen=True)
class Roots:
    """Where systems ended."""

    coefficients: Float[Tensor, "r k"]
    """Coordinates in the ambiguity."""
    tokens: Float[Tensor, "r d"]
    """Tokens as they enter the MLP."""
    cost: Float[Tensor, " r"]

    def __getitem__(self, which: Tensor) -> "Roots":
        """Return some of them."""
        return Roots(self.coefficients[which], self.tokens[which], self.cost[which])

    def __add__(self, other: "Roots") -> "Roots":
        """Join two lists."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Roots(*(torch.cat(pair) for pair in pairs))

    def __len__(self) -> int:
        return len(self.cost)


@dataclass(frozen=True)
class Tied:
    """Token equations of several patches, tied to what attention is expected to add."""

    system: TokenEquations
    base: Float[Tensor, "n d"]
    moves: Float[Tensor, "q d"]
    expected: Float[Tensor, "n q"]
    tie: Float[Tensor, " q"]
    noise: tuple[float, float]

    def cost(self, theta: Float[Tensor, "r q"], rows: Int[Tensor, " r"]) -> Float[Tensor, " r"]:
        away = theta - self.expected[rows]
        fit = self.system.cost(self.base[rows] + theta @ self.moves, self.noise)
        return fit + away.square() @ self.tie

    def model(
        self, theta: Float[Tensor, "r q"], rows: Int[Tensor, " r"]
    ) -> tuple[Float[Tensor, "r q"], Float[Tensor, "r q q"]]:
        tokens = self.base[rows] + theta @ self.moves
        slope, bend = self.system.model(tokens, self.moves, self.noise)
        away = theta - self.expected[rows]
        return slope + away * self.tie, bend + torch.diag(self.tie)
