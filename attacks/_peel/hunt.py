"""The hunt for tokens, wherever they stand: from many starts, round after round."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from privbench.attacks._peel.peeling import Peeling, standard
from privbench.attacks._peel.starts import Starts
from privbench.attacks._span.levenberg import solve
from privbench.attacks._span.tokens import TokenEquations

WAYS = ((8.0, 0.0), (8.0, 0.2), (1e4, 0.0), (8.0, 0.2), (1e4, 0.2), (1e4, 0.2))
"""One after the other, while nothing is found: chi square over its degrees of freedom below which
a token counts as found, and by how much starts are spread about. A right token has about 1, a mean
of some that differ by hundredths 10 and more, a wrong one a million; few gradients reach some right
ones, which may stand at thousands."""
MANY = 32
"""Starts that are spread."""
SAME = 1e-2
"""Distance, in units of a token, below which two roots are one."""
NEAR = 1e-3
"""Mean squared distance from the hull, in units of the tokens' own spread, from which a candidate
is worth a look in the whole update."""
LEAST = 0.1
"""Smallest spread of starts, as a share of their squares, that is believed to be the tokens'."""
SHARP = 60
"""Steps of the last approach."""


class Hunt:
    """Rounds of starts against the tokens that are left."""

    def __init__(self, peeling: Peeling, rng: Generator, steps: int) -> None:
        self.peeling, self.rng, self.steps = peeling, rng, steps
        self.evaluations = 0

    def run(self, source: Starts, count: int, rounds: int) -> Iterator[int]:
        """Hunt, and yield after each round how many there were.

        What is found first makes the rest easier, and a mean of tokens that are much alike passes
        for one. So only the surest are taken while there are any; then starts are spread about;
        and then everything that may be a token is taken.
        """
        way = 0
        for done in range(1, rounds + 1):
            root, spread = WAYS[way]
            new = self.round(source.draw(count, self.peeling.found), root, spread)
            way = 0 if new else way + 1
            yield done
            if not self.peeling.left or way == len(WAYS):
                return

    def round(self, starts: Float[Tensor, "s d"], root: float, spread: float) -> int:
        """Go down from these tokens; return how many new ones were found and taken out."""
        ends, cost = self._descend(self.peeling.rest, starts)
        if spread:
            near = cost.argsort()[:MANY]
            ends = self._spread(ends[near], spread)
        else:
            near = cost < NEAR
            ends = ends[near][_distinct(ends[near], cost[near], self.peeling.found)]
        if not len(ends):
            return 0
        sharp = self.peeling.polish(ends, SHARP)
        moved = (sharp - ends).square().mean(1).sqrt()
        doubt = self.peeling.surprise(sharp)
        if not spread:
            doubt[moved > 0.2] = torch.inf  # it fell into another token on its way
        before = self.peeling.left
        for one in _distinct(sharp, doubt, self.peeling.found).tolist():
            if doubt[one] < root and self.peeling.left:
                self.peeling.take(sharp[one])
        if before > self.peeling.left:
            self.peeling.refresh()
        return before - self.peeling.left

    def _spread(self, ends: Float[Tensor, "s d"], by: float) -> Float[Tensor, "s d"]:
        """Move tokens about, in the directions in which those that are left differ."""
        norm, rows = self.peeling.block.norm2, self.peeling.rest.hull1.rows
        moves = rows[:, :-1] / norm.weight
        moves = moves / moves.square().mean(1, keepdim=True).sqrt()
        drawn = torch.randn(len(ends), len(moves), generator=self.rng, dtype=torch.float64)
        return standard(ends + by * len(moves) ** -0.5 * drawn.to(ends) @ moves)

    def _descend(
        self, system: TokenEquations, starts: Float[Tensor, "s d"]
    ) -> tuple[Float[Tensor, "e d"], Float[Tensor, " e"]]:
        """Lower the distance from the hulls, inside the first; the cost in units of the spread."""
        norm, (point, along) = self.peeling.block.norm2, system.hull1.points
        base = (point - norm.bias) / norm.weight
        if not len(along):  # one token is left, and its hull is a point
            return standard(base[None]), base.new_zeros(1)
        moves = along / norm.weight
        theta = (norm(starts) - point) @ along.T
        z, _, h = self.peeling.inner(starts)
        spread = [x.var(0, unbiased=False).sum() for x in (z, h)]
        least = [LEAST * x.square().sum(1).mean() for x in (z, h)]  # of starts that are all alike
        size = [float(max(pair)) for pair in zip(spread, least, strict=True)]
        noise = (size[0] / system.equations, size[1] / system.equations)
        solved = solve(
            lambda at, _: system.cost(base + at @ moves, noise),
            lambda at, _: system.model(base + at @ moves, moves, noise),
            theta,
            self.steps,
            1e-14,
        )
        self.evaluations += solved.evaluations
        return standard(base + solved.at @ moves), solved.cost


def _distinct(
    tokens: Float[Tensor, "r d"], cost: Float[Tensor, " r"], known: Float[Tensor, "k d"]
) -> Tensor:
    """Choose each token once, the best of its kind, without those that are known."""
    every = torch.cat([known, tokens])
    kept = list(range(len(known)))
    for one in (cost.argsort() + len(known)).tolist():
        apart = (every[kept] - every[one]).square().mean(1).sqrt()
        if not (apart < SAME).any():
            kept.append(one)
    return torch.tensor(kept[len(known) :], dtype=torch.long, device=tokens.device) - len(known)
