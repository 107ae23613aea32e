"""A cloud: the diamond-square algorithm (Fournier, Fussell and Carpenter, 1982)."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

WIBBLE = 100.0
"""First size of the randomness; the map is scaled to 0 to 1 at the end, so it has no unit."""


def plasma(side: int, decay: float, rng: Generator) -> NDArray[np.float64]:
    """Return a random height map, (side, side), 0 to 1, which repeats at its borders.

    side: a power of two. decay: what the randomness is divided by whenever the steps are halved.
    """
    heights = np.zeros((side, side))
    step, wibble = side, WIBBLE

    def random_mean(total: NDArray[np.float64]) -> NDArray[np.float64]:
        return total / 4 + wibble * rng.uniform(-wibble, wibble, total.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        pairs = corners + np.roll(corners, -1, 0)
        heights[half::step, half::step] = random_mean(pairs + np.roll(pairs, -1, 1))
        centers = heights[half::step, half::step]
        sides = centers + np.roll(centers, 1, 0) + corners + np.roll(corners, -1, 1)
        heights[::step, half::step] = random_mean(sides)
        ends = centers + np.roll(centers, 1, 1) + corners + np.roll(corners, -1, 0)
        heights[half::step, ::step] = random_mean(ends)
        step, wibble = half, wibble / decay
    heights -= heights.min()
    return heights / heights.max()
