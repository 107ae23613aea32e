"""How light breaks on drops of water: brightest a little inside of their rims.

The steps are those of OpenCV's functions of the same names, to the last bit, so that pictures
come out as in the released sets without OpenCV.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate, label, sobel

Gray = NDArray[np.uint8]

WEAK, STRONG = 50, 150
"""Thresholds of the gradient, in levels of 8 bits, as released."""
FARTHEST = 20
"""Pixels from an edge at which light no longer changes, as released."""
UNIT = 1 << 16
"""Of distances, as integers."""
COSTS = ((1, 0, 1.0), (1, 1, 1.4), (1, 2, 2.1969))
"""Down, right, and cost of a move: a chamfer of size 5 (Borgefors, Distance transformations in
digital images, 1986)."""
RELIEF = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
"""Kernel that shows slopes as light from the upper left, as released."""


def droplets(liquid: Gray) -> NDArray[np.float32]:
    """Return how much light each pixel of a liquid layer, (h, w), adds, 0 to 1."""
    near = np.minimum(distance(canny(liquid)), np.float32(FARTHEST))
    shade = equalize(_mean(near.astype(np.float64)).astype(np.float32).astype(np.uint8))
    raised = np.clip(correlate(shade.astype(np.int32), RELIEF, mode="mirror"), 0, 255)
    light = liquid * np.rint(_mean(raised.astype(np.float64))).astype(np.float32)
    brightest = light.max()
    return light / brightest if brightest > 0 else light


def _mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return correlate(x, np.ones((3, 3)), mode="mirror") * (1 / 9)


def canny(gray: Gray) -> NDArray[np.bool_]:
    """Return edges: ridges of the gradient above STRONG, and above WEAK where they touch those."""
    x = gray.astype(np.int32)
    across: Any = sobel(x, 1, mode="nearest")
    down: Any = sobel(x, 0, mode="nearest")
    steep = np.abs(across) + np.abs(down)
    around = np.pad(steep, 1)
    height, width = x.shape

    def neighbor(dy: int, dx: int) -> NDArray[np.int32]:
        return around[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    # The tangents of 22.5 and 67.5 degrees, in units of 2 ** -15.
    flat, high = np.abs(across) * 13573, np.abs(down) << 15
    upright = flat + (np.abs(across) << 16)
    falling = (across ^ down) >= 0
    slanted = np.where(
        falling,
        (steep > neighbor(-1, -1)) & (steep > neighbor(1, 1)),
        (steep > neighbor(-1, 1)) & (steep > neighbor(1, -1)),
    )
    level = (steep > neighbor(0, -1)) & (steep >= neighbor(0, 1))
    plumb = (steep > neighbor(-1, 0)) & (steep >= neighbor(1, 0))
    ridge = np.where(high < flat, level, np.where(high > upright, plumb, slanted))
    ridge &= steep > WEAK
    labelled: Any = label(ridge, np.ones((3, 3)))
    parts, count = labelled
    kept = np.zeros(count + 1, bool)
    kept[parts[ridge & (steep > STRONG)]] = True
    return kept[parts]


def distance(edges: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the chamfer distance to the nearest edge; right up to FARTHEST, then just large."""
    far = np.int32(4 * FARTHEST * UNIT)
    found = np.where(edges, np.int32(0), far)
    # A shortest path may take all its moves of one kind first, then those of the next kind, and
    # never leaves the rectangle between its ends. Runs of 1, 2, 4, ... moves make any number.
    for down, right, cost in COSTS:
        for dy, dx in _turned(down, right):
            times = 1
            while times * cost <= FARTHEST:
                _spread(found, times * dy, times * dx, np.int32(times * round(cost * UNIT)))
                times *= 2
    return found.astype(np.float32) / np.float32(UNIT)


def _turned(down: int, right: int) -> list[tuple[int, int]]:
    moves = {(a, b) for a, b in ((down, right), (right, down))}
    return sorted({(s * a, t * b) for a, b in moves for s in (-1, 1) for t in (-1, 1)})


def _spread(found: NDArray[np.int32], dy: int, dx: int, cost: np.int32) -> None:
    height, width = found.shape
    if abs(dy) >= height or abs(dx) >= width:
        return
    to = (slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0)))
    at = (slice(max(-dy, 0), height + min(-dy, 0)), slice(max(-dx, 0), width + min(-dx, 0)))
    found[to] = np.minimum(found[to], found[at] + cost)


def equalize(gray: Gray) -> Gray:
    """Return the picture with its histogram spread over 0 to 255."""
    counts = np.bincount(gray.ravel(), minlength=256)
    first = int(np.flatnonzero(counts)[0])
    rest = gray.size - counts[first]
    if rest == 0:
        return gray
    counts[: first + 1] = 0
    scale = np.float32(255) / np.float32(rest)
    return np.rint(counts.cumsum().astype(np.float32) * scale).astype(np.uint8)[gray]
