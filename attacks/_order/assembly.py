"""Patches put into their places by seam costs: growth from a seed, and a search over seeds.

Greedy growth (Pomeranz et al., CVPR 2011) without a fixed frame finds most of a picture. What is
assembled well is kept and grown again from there, as segments are in later solvers (Sholomon et
al., CVPR 2013), and the arrangement of least total cost wins.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse.csgraph import connected_components

Costs = Float[np.ndarray, "2 n n"]
Layout = Int[np.ndarray, "g g"]
"""Number of the patch in each cell."""
Cell = tuple[int, int]
TAKEN = 1e6
"""Cost of a patch that is placed already, in units of a seam's: out of the question."""
LOOSE = (-1.5, -1.0, -0.6, -0.3, -0.1)
"""Seams below one of these costs hold a segment together; set by reason."""
NOISES = (0.0, 0.1, 0.3)
"""Deviation of noise on the costs, so that growth from one start does not always end the same way;
set by reason."""
SEEDS, KEPT, SUSPECTS = 8, 6, 24
"""First growths from one patch; arrangements kept to grow from; cells tried in exchanges; set by
reason."""


def total(layout: Layout, costs: Costs, stay: Float[np.ndarray, "g g"]) -> float:
    """Cost of all seams, and of patches away from where they entered the network."""
    across, down = costs
    inner = across[layout[:, :-1], layout[:, 1:]].sum() + down[layout[:-1], layout[1:]].sum()
    return float(inner + stay[layout != _entered(layout)].sum())


def _entered(like: np.ndarray) -> Layout:
    """Return the arrangement in which patches entered the network: each in its own cell."""
    return np.arange(like.size).reshape(like.shape)


def assemble(
    costs: Costs,
    stay: Float[np.ndarray, "g g"],
    rng: np.random.Generator,
    steps: int,
    tick: Callable[[int, float], None],
) -> tuple[Layout, float]:
    """Return the arrangement of least cost.

    A cell that does not keep the patch that entered there costs `stay`; infinity fixes it.
    """
    grid, fixed = len(stay), np.isinf(stay)
    stay, entered = np.where(fixed, 0, stay), _entered(stay)
    best = [(total(entered, costs, stay), entered)]
    if fixed.all():
        return entered, best[0][0]
    anchors = {(y, x): int(entered[y, x]) for y, x in np.argwhere(fixed).tolist()}
    pairs = np.argsort(costs.min(0), axis=None)
    seeds = list(dict.fromkeys((pairs // grid**2).tolist()))[: 0 if anchors else SEEDS]
    for step in range(steps):
        if step < len(seeds):
            grown = grow(costs, {(0, 0): seeds[step]}, grid)
        else:
            start = _draw_start([layout for _, layout in best], costs, rng) | anchors
            noise = float(rng.choice(NOISES)) * rng.standard_normal((grid**2, grid**2))
            grown = grow(costs + noise.astype(np.float32), start, grid, framed=bool(anchors))
        layout = grown if anchors else _rolled(grown, costs, stay)
        _keep(best, layout, total(layout, costs, stay))
        tick(step + 1, best[0][0])
    settled = [_swapped(layout, costs, stay, fixed) for _, layout in best[:3]]
    answer = min(settled, key=lambda layout: total(layout, costs, stay))
    return answer, total(answer, costs, stay)


def _keep(best: list[tuple[float, Layout]], layout: Layout, cost: float) -> None:
    """Add an arrangement to the best, unless one of its cost is there; the worst drops out."""
    if all(cost != known for known, _ in best):
        best.append((cost, layout))
        best.sort(key=lambda one: one[0])
        del best[KEPT:]


def _draw_start(best: Sequence[Layout], costs: Costs, rng: np.random.Generator) -> dict[Cell, int]:
    """Draw what of a former arrangement is kept, to grow again from there.

    Of the best, of any of the kept, or of what entered: most of it may never have moved.
    """
    drawn = best[int(rng.integers(len(best)))]
    base = (best[0], best[0], drawn, _entered(drawn))[int(rng.integers(4))]
    draw = _draw_segment if rng.random() < 0.5 else _draw_cells
    return draw(base, costs, rng)


def grow(costs: Costs, start: Mapping[Cell, int], grid: int, *, framed: bool = False) -> Layout:
    """Add the patch with the best seams to what is placed, until a square picture is full.

    Cells of the start are relative, and the frame is where the picture happens to end, unless
    the start is framed.
    """
    side = 2 * grid + 1  # of a canvas on which any start finds room
    high, wide = (max(cell[axis] for cell in start) for axis in (0, 1))
    top, left = (min(cell[axis] for cell in start) for axis in (0, 1))
    down, right = (side - 1 - top - high) // 2, (side - 1 - left - wide) // 2
    frame = (down, down + grid - 1, right, right + grid - 1) if framed else (side, -1, side, -1)
    canvas = _Canvas(costs, grid, side, frame)
    for (y, x), patch in start.items():
        canvas.put(y + down, x + right, patch)
    while (canvas.taken == 0).any():
        canvas.put(*canvas.best())
    return canvas.picture()


class _Canvas:
    """Patches placed so far, and how well each other patch would fit where."""

    def __init__(
        self, costs: Costs, grid: int, side: int, frame: tuple[int, int, int, int]
    ) -> None:
        self.across, self.down = costs
        self.grid, self.side = grid, side
        self.patches = np.full((side, side), -1)
        self.fit = np.zeros((side, side, grid**2), np.float32)
        self.taken = np.zeros(grid**2, np.float32)
        self.border: set[Cell] = set()
        self.top, self.bottom, self.left, self.right = frame

    def put(self, y: int, x: int, patch: int) -> None:
        """Place a patch, and count its seams for the cells around it."""
        self.patches[y, x], self.taken[patch] = patch, TAKEN
        self.top, self.bottom = min(self.top, y), max(self.bottom, y)
        self.left, self.right = min(self.left, x), max(self.right, x)
        for v, u, seams in (
            (y, x + 1, self.across[patch]),
            (y, x - 1, self.across[:, patch]),
            (y + 1, x, self.down[patch]),
            (y - 1, x, self.down[:, patch]),
        ):
            if 0 <= v < self.side and 0 <= u < self.side:
                self.fit[v, u] += seams
                if self.patches[v, u] < 0:
                    self.border.add((v, u))
        self.border.discard((y, x))

    def best(self) -> tuple[int, int, int]:
        """Return the free cell and patch of least cost, among cells inside a possible frame."""
        inside = [
            (y, x)
            for y, x in self.border
            if max(self.bottom, y) - min(self.top, y) < self.grid
            and max(self.right, x) - min(self.left, x) < self.grid
        ]
        ys, xs = np.array(sorted(inside)).T
        cell, patch = divmod(int((self.fit[ys, xs] + self.taken).argmin()), self.grid**2)
        return int(ys[cell]), int(xs[cell]), patch

    def picture(self) -> Layout:
        """Return what is inside the frame."""
        return self.patches[self.top : self.bottom + 1, self.left : self.right + 1].copy()


def _draw_segment(layout: Layout, costs: Costs, rng: np.random.Generator) -> dict[Cell, int]:
    """Draw one connected part of an arrangement that good seams hold together; large ones more."""
    grid, limit = len(layout), float(rng.choice(LOOSE))
    graph = np.zeros((grid**2, grid**2), bool)
    cells = np.arange(grid**2).reshape(grid, grid)
    for here, there, cost in (
        (np.s_[:, :-1], np.s_[:, 1:], costs[0]),
        (np.s_[:-1], np.s_[1:], costs[1]),
    ):
        graph[cells[here], cells[there]] = cost[layout[here], layout[there]] < limit
    _, label = connected_components(graph, directed=False)
    size = np.bincount(label) ** 1.5
    chosen = label == rng.choice(len(size), p=size / size.sum())
    inside = np.argwhere(chosen.reshape(grid, grid)).tolist()
    return {(y, x): int(layout[y, x]) for y, x in inside}


def _draw_cells(layout: Layout, costs: Costs, rng: np.random.Generator) -> dict[Cell, int]:
    """Draw all cells but the worst, a random share of them."""
    strain = _strain(layout, costs)
    chosen = strain <= np.quantile(strain, rng.uniform(0.3, 0.98))
    return {(y, x): int(layout[y, x]) for y, x in np.argwhere(chosen).tolist()}


def _rolled(layout: Layout, costs: Costs, stay: Float[np.ndarray, "g g"]) -> Layout:
    """Move rows or columns from one edge to the other if that helps."""
    for axis in (0, 1):
        turned = [np.roll(layout, k, axis) for k in range(len(layout))]
        layout = min(turned, key=lambda one: total(one, costs, stay))
    return layout


def _swapped(
    layout: Layout,
    costs: Costs,
    stay: Float[np.ndarray, "g g"],
    fixed: Bool[np.ndarray, "g g"],
) -> Layout:
    """Exchange two patches as long as that helps."""
    cells = np.argwhere(~fixed)
    best, cost = layout, total(layout, costs, stay)
    for _ in range(layout.size):
        bad = _strain(best, costs)[tuple(cells.T)].argsort()[::-1][:SUSPECTS]
        tried = []
        for i, one in enumerate(cells[bad]):
            for other in cells[bad[i + 1 :]]:
                changed = best.copy()
                changed[tuple(one)], changed[tuple(other)] = best[tuple(other)], best[tuple(one)]
                tried.append((total(changed, costs, stay), changed))
        if not tried or (least := min(tried, key=lambda pair: pair[0]))[0] >= cost - 1e-6:
            break
        cost, best = least
    return best


def _strain(layout: Layout, costs: Costs) -> Float[np.ndarray, "g g"]:
    """Sum of the seams around each cell."""
    strain = np.zeros(layout.shape)
    for here, there, cost in (
        (np.s_[:, :-1], np.s_[:, 1:], costs[0]),
        (np.s_[:-1], np.s_[1:], costs[1]),
    ):
        seam = cost[layout[here], layout[there]]
        strain[here] += seam
        strain[there] += seam
    return strain
