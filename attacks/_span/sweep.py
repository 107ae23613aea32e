"""Tokens without a place: roots of the first block's equations, wherever they stand.

Where the position gradient is missing, linear algebra pins no patch down. But a token has far fewer
numbers than equations even if its position embedding is left open, too; so nearly every random
start ends in one of the picture's tokens, and what a token is made of tells its place afterwards.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from privbench.attacks._linear.completion import complete
from privbench.attacks._span.levenberg import solve
from privbench.attacks._span.roots import Roots, Tied
from privbench.attacks._span.search import ENOUGH, SAME, SHARPER, Search
from privbench.attacks._update.reading import unknown
from privbench.threat import Draw

FAINT = 1e-4
"""Noise that is assumed at first, in units of what a wrong picture lets pass for noise: right
tokens then fit better than wrong ones by orders of magnitude."""
ALONE = 0.9
"""Share of roots that no other start came to, above which they are no roots but dents."""
RANK = 1e-6
"""Spread of the position table, relative to the largest, that counts as a direction."""


class Sweep:
    """Rounds of random starts that are tied to no place."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.rows, self.row = search.offset.unique(dim=0, return_inverse=True)  # r d, n
        self.hidden = search.at(search.every[:0])
        """Roots with the embedding of masked patches, where the mask is not known."""
        if (row := unknown(search.seen)) is not None:
            bias = search.vit.stem.bias
            self.rows = torch.cat([self.rows, row.double() + (0.0 if bias is None else bias)])
        self.mean = self.rows.mean(0)
        _, size, along = torch.linalg.svd(self.rows - self.mean, full_matrices=False)
        real = size > RANK * size[0]
        self.table = size[real, None] * along[real] / len(self.rows) ** 0.5
        self.calibrated = False

    @property
    def telling(self) -> bool:
        """Whether a token has room to show its place: else any place explains it."""
        width = self.search.offset.shape[1]
        contents = len(self.search.open.basis) + len(self.search.system.directions)
        return len(self.rows) == 1 or contents + 2 < width

    def round(self) -> bool:
        """Find tokens, and give those that are new their places; False where nothing is a root."""
        search = self.search
        search.coefficients = complete(
            search.open, search.vit.patch, search.coefficients, search.found, search.open.masked
        )
        context = search.refresh_context()
        if not self.calibrated:
            search.noise = (FAINT * search.noise[0], FAINT * search.noise[1])
        missing = (~search.found).nonzero().flatten()
        pick = torch.randint(len(missing), (search.starts,), generator=search.rng)
        seats = missing[pick.to(missing.device)]
        starts = search.draw_alike(search.starts)
        if search.found.any():
            starts[: len(missing)] = search.coefficients[seats][: len(missing)]
        position = (search.offset[seats] - self.mean) @ torch.linalg.pinv(self.table)
        theta = torch.cat([starts, position, context[seats]], dim=1)
        theta, roots = self._solved(theta, context[seats])
        while not self.calibrated:
            before = search.noise
            true = search.calibrate_noise(roots)
            if not len(true):  # no start came anywhere: nothing tells what noise is
                search.noise = (float("inf"), float("inf"))
                return False
            theta, roots = self._solved(theta[true], context[seats[true]])
            seats = seats[true]
            self.calibrated = all(
                now > SHARPER * was for now, was in zip(search.noise, before, strict=True)
            )
        true = roots[roots.cost < search.root]
        new = true[self._distinct(true)]
        if len(new) > ALONE * len(true):
            return False
        self._place(new, context)
        return True

    def _distinct(self, roots: Roots) -> Int[Tensor, " u"]:
        """Choose each root once, the best of its kind, without those that have a place."""
        placed = self.search.tokens[self.search.found]
        unit = _standard(torch.cat([placed, self.hidden.tokens, roots.tokens]))
        apart = torch.cdist(unit, unit) / unit.shape[1] ** 0.5
        before = len(unit) - len(roots)
        kept = list(range(before))
        for one in (roots.cost.argsort() + before).tolist():
            if not (apart[one, kept] < SAME).any():
                kept.append(one)
        return torch.tensor(kept[before:], dtype=torch.long, device=unit.device) - before

    def _solved(
        self, theta: Float[Tensor, "r q"], expected: Float[Tensor, "r c"]
    ) -> tuple[Float[Tensor, "r q"], Roots]:
        """Solve from coordinates of the patch, of its position, and of what attention adds."""
        search, system, k = self.search, self.search.system, len(self.search.open.basis)
        moves = torch.cat([search.open.basis @ search.embed.T, self.table, system.moves])
        free = theta.new_zeros(len(moves) - expected.shape[1])
        tie = torch.cat([free, torch.ones_like(expected[0])]) / system.equations
        base = (self.mean + system.added).expand(len(theta), -1)
        expected = torch.cat([free.expand(len(theta), -1), expected], dim=1)
        tied = Tied(system, base, moves, expected, tie, search.noise)
        solved = solve(tied.cost, tied.model, theta, search.steps, ENOUGH)
        search.evaluations += solved.evaluations
        return solved.at, Roots(solved.at[:, :k], base + solved.at @ moves, solved.cost)

    def _place(self, roots: Roots, context: Float[Tensor, "n c"]) -> None:
        """Seat roots where their tokens leave the least unexplained, if they are roots there."""
        search, k = self.search, roots.coefficients.shape[1]
        content = torch.cat([search.open.basis @ search.embed.T, search.system.moves])
        target = self.rows + search.system.added
        rows, inside = [], []
        for token in roots.tokens:
            # the norm before the MLP sees no shift and no scale of a token
            parts = torch.cat([-content, token[None], torch.ones_like(token)[None]]).T
            solved = torch.linalg.lstsq(parts.cpu(), target.T.cpu(), driver="gelsd").solution
            row = int((parts.cpu() @ solved - target.T.cpu()).norm(dim=0).argmin())
            rows.append(row)
            inside.append(solved[: len(content), row].to(context.device))
        if not rows:
            return
        row, both = torch.tensor(rows, device=context.device), torch.stack(inside)
        coefficients, context = both[:, :k], both[:, k:]
        for one in set(rows):
            mine, at = row == one, (self.row == one).nonzero().flatten()
            if not len(at):
                tokens = target[one] + both[mine] @ content
                cost = search.system.cost(tokens, search.noise)
                self.hidden += Roots(coefficients[mine], tokens, cost)[cost < search.root]
                continue
            solved = search.attempt(
                at[:1].expand(int(mine.sum())), coefficients[mine], context[mine]
            )
            old = search.at(at[search.found[at]])
            search.found[at] = False
            search.assign_to_masked(at, search.distinct(old + solved, search.root))

    def unmask(self) -> Search:
        """Return a search that knows the mask: places whose own embedding no token has."""
        search = self.search
        if not len(self.hidden):
            return search
        masked = ~search.found.expand(search.seen.shape[0], -1)
        draw = Draw(masked, search.every.expand_as(masked))
        known = Search(search.seen, search.rng, search.starts, search.steps, draw)
        at = search.found.nonzero().flatten()
        known.evaluations = search.evaluations
        known.refresh_context()
        known.noise = search.noise
        known.put(at, search.at(at))
        known.assign_to_masked(
            (~search.found).nonzero().flatten(), known.distinct(self.hidden, known.root)
        )
        return known


def _standard(tokens: Float[Tensor, "r d"]) -> Float[Tensor, "r d"]:
    """Tokens as the norm before the MLP sees them."""
    centered = tokens - tokens.mean(1, keepdim=True)
    return centered / centered.square().mean(1, keepdim=True).sqrt()
