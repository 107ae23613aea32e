"""Smearing and enlarging, which several corruptions share."""

from math import ceil, cos, radians, sin

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.floating]


def along(x: Plane, radius: int, sigma: float, angle: float) -> NDArray[np.float32]:
    """Average over pixels ahead in one direction, as ImageMagick's motion blur does.

    Weights are half a normal curve of width sigma, 2 radius + 1 pixels long; angle in degrees,
    0 to the right, 90 down. Edges are repeated.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights = (weights / weights.sum()).astype(np.float32)
    down = [ceil(i * sin(radians(angle)) - 0.5) for i in steps]
    right = [ceil(i * cos(radians(angle)) - 0.5) for i in steps]
    edge = 2 * radius + 1
    padded = np.pad(x, [(edge, edge), (edge, edge)] + [(0, 0)] * (x.ndim - 2), mode="edge")
    padded = padded.astype(np.float32, copy=False)
    height, width = x.shape[:2]
    found = np.zeros(x.shape, np.float32)
    part = np.empty_like(found)
    for weight, dy, dx in zip(weights, down, right, strict=True):
        top, left = edge + dy, edge + dx
        found += np.multiply(padded[top : top + height, left : left + width], weight, out=part)
    return found


def zoomed(x: Plane, factor: float) -> Plane:
    """Return the middle of a picture, enlarged to its own size by linear interpolation."""
    side = x.shape[0]
    inner = ceil(side / factor)
    first = (side - inner) // 2
    # Corners meet corners; what is then wider than the picture is trimmed on both sides.
    outer = round(inner * factor)
    places = np.arange(outer) * ((inner - 1) / max(outer - 1, 1))
    trim = (outer - side) // 2
    places = places[trim : trim + side]
    low = np.minimum(places.astype(np.intp), inner - 2)
    share = (places - low).astype(x.dtype)
    middle = x[first : first + inner, first : first + inner]
    for axis in (0, 1):
        weights = share.reshape((-1,) + (1,) * (x.ndim - 1 - axis))
        near, far = middle.take(low, axis), middle.take(low + 1, axis)
        far -= near
        far *= weights
        middle = near
        middle += far
    return middle
