"""Empty seats of pictures whose other patches are known, and the last digits of all.

With the picture around it, attention's gift to a token can be computed for any patch that is tried
there. So only the patch is unknown, in the coordinates that its place leaves open, and tokens that
are too much alike to be told apart in the stream are apart here.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from privbench.attacks._peel.gather import Places
from privbench.attacks._peel.peeling import Peeling, standard
from privbench.attacks._peel.settle import Settled
from privbench.attacks._span.levenberg import solve
from privbench.vit import ViT

ROOT = 10.0
"""Chi square over its degrees of freedom, or its quotient to what patches have that are known,
below which a patch on its seat is the right one."""
SLACK = 0.1
"""By how much a patch may leave the range of colors before it has settled."""
ROUNDS, KEPT = 4, 3
"""Of trying all empty seats; starts that are followed to the end."""
PASSES = 3
"""Of computing what attention gives, and going down with it."""
STEPS = 12
"""Of Levenberg-Marquardt in a pass."""


class Fill:
    """Patches as roots of the whole update's equations, each on its seat."""

    def __init__(self, vit: ViT, peeling: Peeling, where: Places) -> None:
        self.vit, self.peeling, self.where = vit, peeling, where
        self.system, self.moves = peeling.whole, where.moves
        self.noise = self.system.typical(peeling.found)

    def run(self, settled: Settled) -> Settled:
        """Sharpen what is known, then fill what is empty, as long as that finds something."""
        if not len(self.moves):  # the places leave nothing open
            return settled
        answer, sure = settled.answer.clone(), settled.sure.clone()
        usual = self._sharpen(answer, sure)
        mostly = sure.double().mean(1) > 0.5
        for _ in range(ROUNDS):
            empty = (~sure & mostly[:, None]).nonzero().tolist()
            if not empty:
                break
            for picture, seat in empty:
                patch, doubt = self._seat(answer[picture], seat)
                if self._possible(patch, seat):
                    answer[picture, seat] = patch
                    sure[picture, seat] = doubt < max(ROOT, ROOT * usual)
            usual = self._sharpen(answer, sure)
        return Settled(answer, sure)

    def _possible(self, patch: Float[Tensor, " k"], seat: int) -> bool:
        """Whether a patch has colors that there are."""
        one = self.where.origin[self.where.prefix + seat] + patch @ self.where.basis
        pixels = self.vit.pixels(one.expand(1, self.vit.grid**2, -1))
        return bool(pixels.min() > -SLACK and pixels.max() < 1 + SLACK)

    def _down(
        self, offset: Float[Tensor, "r d"], start: Float[Tensor, "r k"]
    ) -> tuple[Float[Tensor, "r k"], Float[Tensor, " r"]]:
        """Go down from these patches with what attention gives held; chi square at the end."""
        solved = solve(
            lambda at, rows: self.system.cost(offset[rows] + at @ self.moves, self.noise),
            lambda at, rows: self.system.model(
                offset[rows] + at @ self.moves, self.moves, self.noise
            ),
            start,
            STEPS,
            0.5,
        )
        ends = standard(offset + solved.at @ self.moves, self.peeling.block.norm2.eps)
        return solved.at, self.peeling.surprise(ends)

    def _sharpen(self, answer: Float[Tensor, "b n k"], sure: Bool[Tensor, "b n"]) -> float:
        """Bring all known patches to their roots, in place; the median of their chi square."""
        if not sure.any():
            return 0.0
        doubt = answer.new_zeros(0)
        for _ in range(PASSES):
            offset = self.where.behind(self.peeling.block, answer)[sure]
            answer[sure], doubt = self._down(offset, answer[sure])
        return float(doubt.median())

    def _seat(self, picture: Float[Tensor, "n k"], seat: int) -> tuple[Float[Tensor, " k"], float]:
        """Try every patch of the picture on a seat, and go down from there; and its chi square."""
        origin = self.where.origin[self.where.prefix + seat]
        start = (self.where.patches(picture[None])[0] - origin) @ self.where.basis.T
        doubt = start[:, 0]
        for _ in range(PASSES):
            tried = picture.expand(len(start), -1, -1).clone()
            tried[:, seat] = start
            start, doubt = self._down(self.where.behind(self.peeling.block, tried)[:, seat], start)
            best = doubt.argsort()[:KEPT]
            start, doubt = start[best], doubt[best]
        return start[0], float(doubt[0])
