"""Optimizers over many rows at once; rows do not touch each other, each has its own line search."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Rows = Float[Tensor, "k p"]
Values = Float[Tensor, " k"]
Index = Int[Tensor, " k"]
Evaluate = Callable[[Rows, Index], tuple[Values, Rows]]
"""Values and slopes at points; the second argument says which rows these belong to."""
Stages = Sequence[tuple[int, Evaluate]]
"""What to descend, and how many evaluations of each row that may take."""
Box = tuple[Tensor, Tensor]
"""Least and greatest value of each coordinate, or what broadcasts to it."""

ARMIJO, CURVATURE = 1e-4, 0.9
"""Constants of the weak Wolfe conditions (Nocedal and Wright, section 3.1)."""
TRIALS = 20
"""Points that one line search may try; set by reason."""


def constant(done: float) -> float:
    """Keep the learning rate."""
    return 1.0


def linear(done: float) -> float:
    """Let the learning rate fall to zero along a line."""
    return 1 - done


def cosine(done: float) -> float:
    """Let the learning rate fall to zero along half a cosine."""
    return (1 + math.cos(math.pi * done)) / 2


def step_decay(done: float) -> float:
    """Divide the learning rate by ten at 3/8, 5/8 and 7/8 (Geiping et al.)."""
    return 0.1 ** sum(done >= share for share in (3 / 8, 5 / 8, 7 / 8))


def warm_up(share: float, then: Callable[[float], float]) -> Callable[[float], float]:
    """Let the learning rate rise from zero in a share of the steps, then follow a schedule."""
    return lambda done: done / share if done < share else then((done - share) / (1 - share))


@dataclass(frozen=True)
class Adam:
    """Adam (arXiv:1412.6980), on the slope or on its sign; points are put back into the box."""

    lr: float
    schedule: Callable[[float], float] = constant
    """Factor of the learning rate, by the share of the steps that are done."""
    signed: bool = False

    def run(self, start: Rows, stages: Stages, box: Box | None) -> Rows:
        """Take one step an evaluation; a row whose slope is not finite stays where it is."""
        point, rows = start.clone(), torch.arange(len(start), device=start.device)
        mean, square = torch.zeros_like(point), torch.zeros_like(point)
        total, step = sum(count for count, _ in stages), 0
        for count, evaluate in stages:
            for _ in range(count):
                _, slope = evaluate(point, rows)
                slope = slope.sign() if self.signed else slope
                rate = self.lr * self.schedule(step / total)
                step += 1
                mean = 0.9 * mean + 0.1 * slope
                square = 0.999 * square + 0.001 * slope.square()
                size = (square / (1 - 0.999**step)).sqrt() + 1e-8
                moved = point - rate / (1 - 0.9**step) * mean / size
                moved = moved if box is None else moved.clamp(*box)
                point = torch.where(moved.isfinite(), moved, point)
        return point


@dataclass(frozen=True)
class LBFGS:
    """L-BFGS in compact form (Byrd, Nocedal and Schnabel, 1994).

    The line search brackets a weak Wolfe point (Lewis and Overton, 2013) and interpolates inside.
    A row whose line search fails forgets its history; where the plain slope fails too, it rests.
    Each stage starts without history. There is no box: penalize what leaves it.
    """

    history: int = 100
    line_search: bool = True
    """Whether steps have to descend; if not, all of them are taken, as torch does by default."""

    def run(self, start: Rows, stages: Stages, box: Box | None) -> Rows:
        """Return the last accepted points."""
        point = start
        for count, evaluate in stages:
            search = _Search(point, min(self.history, count), self.line_search)
            for _ in range(count):
                rows = search.moving.nonzero().flatten()
                if not len(rows):
                    break
                search.take(rows, *evaluate(search.trial(rows), rows))
            point = search.point
        return point


class _Search:
    """Where each row stands: its accepted point, its direction, its bracket, its history."""

    def __init__(self, start: Rows, history: int, careful: bool) -> None:
        k, p = start.shape
        self.careful = careful
        wide, whole = ({"dtype": d, "device": start.device} for d in (torch.float64, torch.long))
        self.point, self.slope = start.clone(), torch.zeros_like(start)
        self.direction = torch.zeros_like(start)
        self.value = torch.full((k,), math.inf, **wide)
        self.descent, self.step = torch.zeros(k, **wide), torch.zeros(k, **wide)
        self.low, self.high = torch.zeros(k, **wide), torch.full((k,), math.inf, **wide)
        self.trials, self.kept = torch.zeros(k, **whole), torch.zeros(k, **whole)
        self.moving = torch.ones(k, dtype=torch.bool, device=start.device)
        self.moves, self.turns = start.new_zeros(k, history, p), start.new_zeros(k, history, p)
        # Of the products only those of a move with a turn not older than it are ever read.
        self.across = torch.zeros(k, history, history, **wide)
        self.within = torch.zeros(k, history, history, **wide)

    def trial(self, rows: Index) -> Rows:
        """Points to evaluate next."""
        step = self.step[rows, None].to(self.point.dtype)
        return self.point[rows] + step * self.direction[rows]

    def take(self, rows: Index, value: Values, slope: Rows) -> None:
        """Accept points that descend enough, and choose the next trial of every row."""
        value, along = value.double(), _dot(slope, self.direction[rows])
        first = self.value[rows].isinf()
        finite = value.isfinite() & slope.isfinite().all(dim=1)
        wanted = self.value[rows] + ARMIJO * self.step[rows] * self.descent[rows]
        lower = finite & (value <= wanted)
        flat = along >= CURVATURE * self.descent[rows]
        self.trials[rows] += 1
        spent = self.trials[rows] >= TRIALS
        accept = finite & (first | (lower & (flat | spent)) | (not self.careful))
        self.moving[rows[~finite & (first | (not self.careful))]] = False
        retry = ~accept & ~spent & ~first
        self._bracket(rows[retry], value[retry], along[retry], lower[retry])
        self._accept(rows[accept], value[accept], slope[accept], first[accept])
        failed = rows[~accept & spent]
        self.moving[failed[self.kept[failed] == 0]] = False
        self.kept[failed] = 0
        self._aim(failed)

    def _bracket(
        self, rows: Index, value: Values, along: Values, lower: Bool[Tensor, " k"]
    ) -> None:
        step, descent = self.step[rows], self.descent[rows]
        low = torch.where(lower, step, self.low[rows])
        high = torch.where(lower, self.high[rows], step)
        # Far enough down, but still steep: follow the secant of the slopes, never much farther.
        secant = descent / (descent - along)
        ahead = step * torch.where(secant > 0, secant, 10.0).clamp(1.5, 10.0)
        # Not far enough down: the parabola through both values and the slope at the start.
        bend = 2 * (value - self.value[rows] - step * descent)
        back = torch.where(lower, 0.5 * (low + high), -descent * step.square() / bend)
        width = high - low
        back = back.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        inside = torch.minimum(torch.maximum(back, low + 0.1 * width), low + 0.5 * width)
        self.low[rows], self.high[rows] = low, high
        self.step[rows] = torch.where(high.isinf(), ahead, inside)

    def _accept(self, rows: Index, value: Values, slope: Rows, first: Bool[Tensor, " k"]) -> None:
        move = self.step[rows, None].to(slope.dtype) * self.direction[rows]
        turn = slope - self.slope[rows]
        self.point[rows] += move
        self.value[rows], self.slope[rows] = value, slope
        curved = ~first & (_dot(move, turn) > 1e-10 * _dot(turn, turn))
        self._remember(rows[curved], move[curved], turn[curved])
        self._aim(rows)

    def _remember(self, rows: Index, move: Rows, turn: Rows) -> None:
        slot = self.kept[rows] % self.moves.shape[1]
        self.moves[rows, slot], self.turns[rows, slot] = move, turn
        self.across[rows, :, slot] = _times(_pick(self.moves, rows), turn)
        products = _times(_pick(self.turns, rows), turn)
        self.within[rows, slot], self.within[rows, :, slot] = products, products
        self.kept[rows] += 1

    def _aim(self, rows: Index) -> None:
        """Choose the direction of rows, and how far to try along it."""
        slope = self.slope[rows]
        direction = -self._inverse(rows, slope)
        plain = (self.kept[rows] == 0) | ~(_dot(slope, direction) < 0)
        self.kept[rows[plain]] = 0
        direction = torch.where(plain[:, None], -slope, direction)
        self.direction[rows], self.descent[rows] = direction, _dot(slope, direction)
        gentle = (1 / slope.abs().sum(dim=1).double()).clamp(max=1)
        self.step[rows] = torch.where(plain, gentle, 1.0)
        self.low[rows], self.high[rows], self.trials[rows] = 0.0, math.inf, 0
        self.moving[rows[self.descent[rows] == 0]] = False

    def _inverse(self, rows: Index, slope: Rows) -> Rows:
        """Multiply slopes by the inverse Hessian that the history implies."""
        kept, size = self.kept[rows], self.moves.shape[1]
        used = int(kept.clamp(max=size).max()) if len(rows) else 0
        if not used:
            return slope
        moves, turns = (_pick(t[:, :used], rows) for t in (self.moves, self.turns))
        ages = torch.arange(used, device=slope.device)
        order = ((kept - size).clamp(min=0)[:, None] + ages) % size  # oldest first
        valid = ages < kept[:, None]

        def sorted_(products: Tensor) -> Tensor:
            table = products[rows, :used, :used]
            table = table.gather(1, order[..., None].expand_as(table))
            return table.gather(2, order[:, None].expand_as(table))

        both = valid[:, :, None] & valid[:, None]
        upper = torch.where(both, sorted_(self.across), 0.0).triu()
        diagonal = torch.where(valid, upper.diagonal(dim1=1, dim2=2), 1.0)
        upper = upper + torch.diag_embed((~valid).double())
        within = torch.where(both, sorted_(self.within), 0.0)
        downhill, turned = (
            torch.where(valid, _times(table, slope).gather(1, order), 0.0)
            for table in (moves, turns)
        )
        last = (kept.clamp(min=1, max=used) - 1)[:, None]
        scale = diagonal.gather(1, last) / within.diagonal(dim1=1, dim2=2).gather(1, last)
        alpha = torch.linalg.solve_triangular(upper, downhill[..., None], upper=True)
        rest = scale[..., None] * (turned[..., None] - within @ alpha)
        right = diagonal[..., None] * alpha - rest
        gamma = torch.linalg.solve_triangular(upper.mT, right, upper=False)
        alpha, gamma = (
            torch.zeros_like(downhill).scatter(1, order, c.squeeze(2)).to(slope.dtype)
            for c in (alpha, gamma)
        )
        ahead = slope - (alpha[:, None] @ turns).squeeze(1)
        return scale.to(slope.dtype) * ahead + (gamma[:, None] @ moves).squeeze(1)


def _dot(a: Rows, b: Rows) -> Float[Tensor, " k"]:
    return (a * b).sum(dim=1).double()


def _times(table: Float[Tensor, "k m p"], row: Rows) -> Float[Tensor, "k m"]:
    return (table @ row[..., None]).squeeze(2).double()


def _pick(tensor: Tensor, rows: Index) -> Tensor:
    """Rows of a tensor, without a copy where they are all."""
    return tensor if len(rows) == len(tensor) else tensor[rows]
