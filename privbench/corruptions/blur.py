"""Blur: defocus, frosted glass, motion, zoom; and Gaussian, for validation (arXiv:1903.12261)."""

from functools import cache
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import correlate1d, gaussian_filter

from privbench.corruptions._motion import along, zoomed
from privbench.corruptions._recipe import Levels, Pixels, corruption


def blurred(x: NDArray[np.floating], sigma: float) -> NDArray[np.floating]:
    """Return the picture after a Gaussian filter; edges are repeated, channels stay apart."""
    return gaussian_filter(x, (sigma, sigma, 0)[: x.ndim], mode="nearest")


@corruption(
    imagenet=((3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5)),
    cifar10=((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
)
def defocus_blur(pixels: Pixels, rng: Generator, c: tuple[float, float]) -> Levels:
    """Average over a disk, its rim smoothed: (radius, width of the smoothing)."""
    kernel = _disk(*c)
    edge = len(kernel) // 2
    height, width = pixels.shape[:2]
    padded = np.pad(pixels.transpose(2, 0, 1), ((0, 0), (edge, edge), (edge, edge)), mode="reflect")
    shape = (next_fast_len(height + 2 * edge, True), next_fast_len(width + 2 * edge, True))
    # The kernel is its own mirror image, and what wraps around is cut off.
    spectrum: Any = rfft2(padded / 255, shape)
    summed: Any = irfft2(spectrum * rfft2(kernel, shape), shape)
    summed = summed[:, 2 * edge :, 2 * edge :][:, :height, :width]
    return summed.transpose(1, 2, 0) * 255


@cache
def _disk(radius: float, smoothing: float) -> NDArray[np.float64]:
    reach, taps = (8, 1) if radius <= 8 else (int(radius), 2)
    across = np.arange(-reach, reach + 1)
    disk = (across**2 + across[:, None] ** 2 <= radius**2).astype(np.float64)
    disk /= disk.sum()
    bell = np.exp(-(np.arange(-taps, taps + 1) ** 2) / (2 * smoothing**2))
    for axis in (0, 1):
        disk = correlate1d(disk, bell / bell.sum(), axis, mode="mirror")
    return disk


@corruption(
    imagenet=((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    cifar10=((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
)
def glass_blur(pixels: Pixels, rng: Generator, c: tuple[float, int, int]) -> Levels:
    """Copy pixels from nearby between two Gaussian filters: (sigma, reach, passes).

    The authors' code reads as a swap of two pixels, but both sides are views into one array, so
    that it copies; so do the released files, and so do we.
    """
    sigma, reach, passes = c
    height, width = pixels.shape[:2]
    x = (blurred(pixels / 255, sigma) * 255).astype(np.uint8)
    for _ in range(passes):
        sources = _sources(height, width, reach, rng)
        x = x.reshape(-1, 3)[sources].reshape(x.shape)
    return np.clip(blurred(x / 255, sigma), 0, 1) * 255


def _sources(height: int, width: int, reach: int, rng: Generator) -> NDArray[np.intp]:
    # Pixels are visited from the bottom right to the top left. A pixel copies one that was visited
    # before, which by then is itself a copy, or one that is still as it was. So each points to
    # another, and its value is where its chain of pointers ends: doubling finds all ends at once.
    rows = np.arange(height - reach, reach, -1)
    columns = np.arange(width - reach, reach, -1)
    moves = rng.integers(-reach, reach, size=(len(rows), len(columns), 2))
    down, right = rows[:, None] + moves[..., 1], columns[None] + moves[..., 0]
    own = rows[:, None] * width + columns
    source = down * width + right
    ends = np.arange(height * width)
    ends[own] = source
    visited = np.zeros(height * width, bool)
    visited[own] = True
    pointer = ends.copy()
    pointer[own] = np.where(visited[source] & (source > own), source, own)
    while not np.array_equal(pointer, following := pointer[pointer]):
        pointer = following
    return ends[pointer]


@corruption(
    imagenet=((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0)),
    cifar10=((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)),
)
def motion_blur(pixels: Pixels, rng: Generator, c: tuple[int, float]) -> Levels:
    """Smear along a random direction: (radius, sigma)."""
    radius, sigma = c
    return along(pixels.astype(np.float32), radius, sigma, angle=rng.uniform(-45, 45))


@corruption(
    imagenet=((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    cifar10=((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
)
def zoom_blur(pixels: Pixels, rng: Generator, c: tuple[float, float]) -> Levels:
    """Average with enlargements of the middle: (up to this factor, in such steps)."""
    x = (pixels / 255).astype(np.float32)
    end, step = c
    factors = np.arange(1, end, step)
    total = x.copy()
    for factor in factors:
        total += zoomed(x, factor)
    return total / (len(factors) + 1) * 255


@corruption(imagenet=(1.0, 2.0, 3.0, 4.0, 6.0), cifar10=(0.4, 0.6, 0.7, 0.8, 1.0))
def gaussian_blur(pixels: Pixels, rng: Generator, sigma: float) -> Levels:
    """Smooth by a Gaussian filter."""
    return np.clip(blurred(pixels / 255, sigma), 0, 1) * 255
