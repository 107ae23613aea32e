"""Where the labels of points go, so that none hides another one, a point or a bar."""

import numpy as np
from jaxtyping import Float

Numbers = Float[np.ndarray, "..."]
Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""

RADII = (5.0, 11.0, 18.0, 27.0, 38.0, 52.0, 70.0, 92.0, 120.0)
"""Distances of a label's edge from its point that are tried, in points."""
ANGLES = 24
SWEEPS = 6
"""Each label is placed anew, given all others, so many times; fewer where none moves."""
MARKER = 4.0
"""Half a marker's width, with some air."""
AIR = 1.5
"""Around a label."""
STEPS = 16
"""Points along a leader line that have to be free."""
ON_LABEL, ON_MARKER, ON_BAR, OUTSIDE = 1000.0, 300.0, 40.0, 3000.0
"""What it costs to hide these, and to leave the axes; a point of distance costs one."""


def spread(
    points: Float[np.ndarray, "n 2"],
    sizes: Float[np.ndarray, "n 2"],
    within: Box,
    bars: Float[np.ndarray, "m 4"],
) -> Float[np.ndarray, "n 2"]:
    """Return the centers of labels of these widths and heights; all units are the same.

    Bars are boxes, too, and may be covered where there is no other place.
    """
    half = sizes / 2 + AIR
    centers = points + np.array([1.0, 1.0]) * (RADII[0] + half)
    marks = np.concatenate([points - MARKER, points + MARKER], 1)
    order = np.argsort([_crowd(points, one) for one in points])
    for _ in range(SWEEPS):
        before = centers.copy()
        for i in order:
            tried, costs = _tried(points[i], half[i])
            box = np.concatenate([tried - half[i], tried + half[i]], 1)
            others = np.delete(np.concatenate([centers - half, centers + half], 1), i, 0)
            costs = costs + ON_LABEL * _hits(box, others) + ON_MARKER * _hits(box, marks)
            costs += ON_BAR * _hits(box, bars) + OUTSIDE * _outside(box, within)
            costs += ON_LABEL * _crossed(points[i], tried, others)
            costs += ON_BAR * _crossed(points[i], tried, np.delete(marks, i, 0))
            centers[i] = tried[int(costs.argmin())]
        if np.array_equal(before, centers):
            break
    return centers


def _crowd(points: Numbers, one: Numbers) -> float:
    """Return how far the third neighbor is: the most crowded points choose first."""
    apart = np.sort(np.linalg.norm(points - one, axis=1))
    return float(apart[min(3, len(apart) - 1)])


def _tried(point: Numbers, half: Numbers) -> tuple[Numbers, Numbers]:
    """Return all centers that are tried, and what their distance costs."""
    angles = np.arange(ANGLES) * 2 * np.pi / ANGLES
    ways = np.stack([np.cos(angles), np.sin(angles)], 1)
    # the label's nearest edge is at the radius, not its center
    edges = np.clip(ways * 2**0.5, -1, 1) * half
    tried = np.concatenate([point + radius * ways + edges for radius in RADII])
    return tried, np.repeat(RADII, ANGLES)


def _hits(boxes: Numbers, others: Numbers) -> Numbers:
    """Return how many of the others each box meets."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return (low <= high).all(2).sum(1).astype(float)


def _outside(boxes: Numbers, within: Box) -> Numbers:
    left, bottom, right, top = within
    return (
        (boxes[:, 0] < left) | (boxes[:, 1] < bottom) | (boxes[:, 2] > right) | (boxes[:, 3] > top)
    ).astype(float)


def _crossed(point: Numbers, centers: Numbers, others: Numbers) -> Numbers:
    """Return how many boxes lie on the way from a point to each center."""
    share = np.linspace(0, 1, STEPS)[:, None, None]
    along = point + share * (centers - point)  # steps, centers, 2
    inside = (along[:, :, None] >= others[:, :2]) & (along[:, :, None] <= others[:, 2:])
    return inside.all(3).any(0).sum(1).astype(float)
