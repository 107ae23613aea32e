"""Patches put into their places by seam costs: growth from a seed, and a search over seeds.

Greedy growth (Pomeranz et al., CVPR 2011) without a fixed frame finds most of a picture. What is
assembled well is kept and grown again from there, as segments are in later solvers (Sholomon et
al., CVPR 2013), and the arrangement of least total cost wins.
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse.csgraph import connected_components

Costs = Float[np.ndarray, "2 n n"]
Layout = Int[np.ndarray, "g g"]
"""Number of the patch in each cell."""
TAKEN = 1e6
LOOSE = (-1.5, -1.0, -0.6, -0.3, -0.1)
"""Seams below one of these costs hold a segment together."""
NOISES = (0.0, 0.1, 0.3)
"""Of the costs, so that growth from one start does not always end the same way."""
SEEDS, KEPT, SUSPECTS = 8, 6, 24
"""First growths from one patch; arrangements kept to grow from; cells tried in exchanges."""


def total(layout: Layout, costs: Costs, stay: Float[np.ndarray, "g g"]) -> float:
    """Cost of all seams, and of patches away from where they were fed."""
    across, down = costs
    inner = across[layout[:, :-1], layout[:, 1:]].sum() + down[layout[:-1], layout[1:]].sum()
    fed = np.arange(layout.size).reshape(layout.shape)
    return float(inner + stay[layout != fed].sum())


def assemble(
    costs: Costs,
    stay: Float[np.ndarray, "g g"],
    dice: np.random.Generator,
    steps: int,
    tick: Callable[[int, float], None],
) -> tuple[Layout, float]:
    """Return the arrangement of least cost.

    A cell that does not keep the patch it was fed costs `stay`; infinity fixes it.
    """
    grid, fixed = len(stay), np.isinf(stay)
    stay = np.where(fixed, 0, stay)
    fed = np.arange(grid**2).reshape(grid, grid)
    found = [(total(fed, costs, stay), fed)]

    def consider(layout: Layout) -> None:
        if not fixed.any():
            layout = _rolled(layout, costs, stay)
        cost = total(layout, costs, stay)
        if all(cost != known for known, _ in found):
            found.append((cost, layout))
            found.sort(key=lambda one: one[0])
            del found[KEPT:]

    if fixed.all():
        return fed, found[0][0]
    anchors = {(y, x): int(fed[y, x]) for y, x in np.argwhere(fixed).tolist()}
    pairs = np.argsort(costs.min(0), axis=None)
    seeds = list(dict.fromkeys((pairs // grid**2).tolist()))[: 0 if anchors else SEEDS]
    for step in range(steps):
        if step < len(seeds):
            consider(grow(costs, {(0, 0): seeds[step]}, grid))
        else:
            # the best, any of the kept, or what was fed: most of it may never have moved
            any_, best = found[int(dice.integers(len(found)))][1], found[0][1]
            base = (best, best, any_, fed)[int(dice.integers(4))]
            keep = _segment if dice.random() < 0.5 else _better
            start = keep(base, costs, dice) | anchors
            noise = float(dice.choice(NOISES)) * dice.standard_normal((grid**2, grid**2))
            consider(grow(costs + noise.astype(np.float32), start, grid, framed=bool(anchors)))
        tick(step + 1, found[0][0])
    settled = [_swapped(layout, costs, stay, fixed) for _, layout in found[:3]]
    best = min(settled, key=lambda layout: total(layout, costs, stay))
    return best, total(best, costs, stay)


def grow(
    costs: Costs, start: Mapping[tuple[int, int], int], grid: int, *, framed: bool = False
) -> Layout:
    """Add the patch with the best seams to what is placed, until a square picture is full.

    Cells of the start are relative, and the frame is where the picture happens to end, unless
    the start is framed.
    """
    across, down = costs
    n, side = grid**2, 2 * grid + 1  # cells of a canvas on which any start finds room
    high, wide = (max(cell[axis] for cell in start) for axis in (0, 1))
    top, left = (min(cell[axis] for cell in start) for axis in (0, 1))
    shift = (side - 1 - top - high) // 2, (side - 1 - left - wide) // 2
    canvas = np.full((side, side), -1)
    fit = np.zeros((side, side, n), np.float32)
    taken = np.zeros(n, np.float32)
    border: set[tuple[int, int]] = set()
    y0, y1, x0, x1 = side, -1, side, -1
    if framed:
        y0, y1, x0, x1 = shift[0], shift[0] + grid - 1, shift[1], shift[1] + grid - 1

    def put(y: int, x: int, patch: int) -> None:
        nonlocal y0, y1, x0, x1
        canvas[y, x], taken[patch] = patch, TAKEN
        y0, y1, x0, x1 = min(y0, y), max(y1, y), min(x0, x), max(x1, x)
        for v, u, gain in (
            (y, x + 1, across[patch]),
            (y, x - 1, across[:, patch]),
            (y + 1, x, down[patch]),
            (y - 1, x, down[:, patch]),
        ):
            if 0 <= v < side and 0 <= u < side:
                fit[v, u] += gain
                if canvas[v, u] < 0:
                    border.add((v, u))
        border.discard((y, x))

    for (y, x), patch in start.items():
        put(y + shift[0], x + shift[1], patch)
    while (taken == 0).any():
        open_to_it = [
            (y, x)
            for y, x in border
            if max(y1, y) - min(y0, y) < grid and max(x1, x) - min(x0, x) < grid
        ]
        ys, xs = np.array(sorted(open_to_it)).T
        cell, patch = divmod(int((fit[ys, xs] + taken).argmin()), n)
        put(int(ys[cell]), int(xs[cell]), patch)
    return canvas[y0 : y1 + 1, x0 : x1 + 1].copy()


def _segment(layout: Layout, costs: Costs, dice: np.random.Generator) -> dict[tuple[int, int], int]:
    """Draw one connected part of an arrangement that good seams hold together; large ones more."""
    grid, limit = len(layout), float(dice.choice(LOOSE))
    graph = np.zeros((grid**2, grid**2), bool)
    cells = np.arange(grid**2).reshape(grid, grid)
    for here, there, cost in (
        (np.s_[:, :-1], np.s_[:, 1:], costs[0]),
        (np.s_[:-1], np.s_[1:], costs[1]),
    ):
        graph[cells[here], cells[there]] = cost[layout[here], layout[there]] < limit
    _, label = connected_components(graph, directed=False)
    size = np.bincount(label) ** 1.5
    chosen = label == dice.choice(len(size), p=size / size.sum())
    inside = np.argwhere(chosen.reshape(grid, grid)).tolist()
    return {(y, x): int(layout[y, x]) for y, x in inside}


def _better(layout: Layout, costs: Costs, dice: np.random.Generator) -> dict[tuple[int, int], int]:
    """Draw all cells but the worst, a random share of them."""
    strain = _strain(layout, costs)
    chosen = strain <= np.quantile(strain, dice.uniform(0.3, 0.98))
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
