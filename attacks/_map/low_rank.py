"""Matrices that were cut to their largest singular values: what is exact of them, and the rest.

Of G = W + R, with R off all singular vectors U and V of W, anybody knows U^T G and G V: only
(I - U U^T) G (I - V V^T) = R is open, and of that its energy. So a found gradient's distance to W
counts in full along U or V, and else by R's size. Rows of U^T G sum over tokens like any others.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from privbench.defense import LowRank
from privbench.observation import Observation

Rows = Float[Tensor, "k f"]


def low_rank(seen: Observation) -> dict[str, LowRank]:
    """Return what the defense says of its ranks, where the update is one client's own gradient."""
    protocol = seen.protocol
    if protocol.clients > 1 or protocol.optimizer != "sgd":
        return {}
    return seen.model.defense.low_rank(seen.update.tensors)


def as_matrix(tensor: Tensor, low: LowRank) -> Float[Tensor, "o f"]:
    """Return the matrix that was cut, float64."""
    return tensor.double().reshape(len(low.left), -1)


def spread(low: LowRank, size: float) -> float:
    """Return the standard deviation of R's entries in its own directions; W's rms is `size`."""
    (o, k), f = low.left.shape, len(low.right)
    return low.rest * size * (o * f / max((o - k) * (f - k), 1)) ** 0.5


class Weighing:
    """Makes the errors of a tensor's entries alike: what is off U and V counts less."""

    def __init__(self, low: LowRank, like: Tensor, known: Tensor) -> None:
        """Take precisions of all entries as they are without R."""
        size = float(like.double().square().mean()) ** 0.5
        error = float((1 / known.double()).mean())
        self.off = 1 - (error / (error + spread(low, size) ** 2)) ** 0.5
        self.left, self.right = low.left.to(like), low.right.to(like)

    def __call__(self, tensor: Tensor) -> Tensor:
        """Return the tensor with its part off U and V scaled down; linear."""
        matrix = tensor.reshape(len(self.left), -1)
        matrix = matrix - self.left @ (self.left.T @ matrix)
        rest = matrix - (matrix @ self.right) @ self.right.T
        return tensor - self.off * rest.reshape(tensor.shape)


def weighed(weighings: Mapping[str, Weighing], gradient: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a gradient each of whose low-rank tensors was weighed."""
    return {n: weighings[n](t) if n in weighings else t for n, t in gradient.items()}


def rows(low: LowRank, weight: Tensor, bias: Tensor | None) -> Rows:
    """Return U^T G, its rows scaled to a root mean square of one, and U^T b as a last column."""
    found = low.left.T @ as_matrix(weight, low)
    size = found.square().mean(1, keepdim=True).sqrt()
    if bias is not None:
        found = torch.cat([found, low.left.T @ bias.double()[:, None]], dim=1)
    return found / size


def told_rows(
    low: LowRank, weight: Tensor, bias: Tensor, table: LowRank | None, slopes: Tensor, prefix: int
) -> tuple[Rows, Float[Tensor, "t k"], Float[Tensor, "t k"]]:
    """Return rows of the patch projection's gradient, their slopes, and the errors of these.

    Slopes are rows of the position gradient: `slopes` is its table of so many tokens, `prefix` of
    them ahead of the patches. Where it was cut as well, R of it has U^T G's rows for slopes as far
    as these lie off its V. Rows are turned so that R's part of each is independent.
    """
    along = low.left
    if table is not None:
        off = along - table.right @ (table.right.T @ along)
        shares, turn = torch.linalg.eigh(off.T @ off)
        along, shares = along @ turn, shares.clamp(min=0)
        size = float(slopes.double().square().mean()) ** 0.5
        # of a token's R the share that lies off the table's U
        free = 1 - table.left.square().sum(1)[prefix:, None]
        wrong = spread(table, size) * (shares * free.clamp(min=0)).sqrt()
    else:
        wrong = slopes.new_zeros(len(slopes) - prefix, along.shape[1]).double()
    found = rows(LowRank(along, low.right, low.rest), weight, bias)
    scale = (along.T @ as_matrix(weight, low)).square().mean(1).sqrt()
    return found, slopes[prefix:].double() @ along / scale, wrong / scale
