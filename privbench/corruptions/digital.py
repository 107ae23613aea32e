"""Digital: contrast, elastic, pixelate, JPEG; and saturation, for validation (arXiv:1903.12261)."""

import io
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn, idctn
from scipy.ndimage import map_coordinates
from skimage.color import hsv2rgb, rgb2hsv

from privbench.corruptions._recipe import Levels, Pixels, corruption

Field = NDArray[np.float64]


@corruption(imagenet=(0.4, 0.3, 0.2, 0.1, 0.05), cifar10=(0.75, 0.5, 0.4, 0.3, 0.15))
def contrast(pixels: Pixels, rng: Generator, kept: float) -> Levels:
    """Move every channel towards its mean."""
    x = pixels / 255
    mean = x.mean((0, 1), keepdims=True)
    return ((x - mean) * kept + mean) * 255


@corruption(
    imagenet=(
        (244 * 2.0, 244 * 0.7, 244 * 0.1),
        (244 * 2.0, 244 * 0.08, 244 * 0.2),
        (244 * 0.05, 244 * 0.01, 244 * 0.02),
        (244 * 0.07, 244 * 0.01, 244 * 0.02),
        (244 * 0.12, 244 * 0.01, 244 * 0.02),
    ),
    cifar10=(
        (0.0, 0.0, 32 * 0.08),
        (32 * 0.05, 32 * 0.2, 32 * 0.07),
        (32 * 0.08, 32 * 0.06, 32 * 0.06),
        (32 * 0.1, 32 * 0.04, 32 * 0.05),
        (32 * 0.1, 32 * 0.03, 32 * 0.03),
    ),
)
def elastic_transform(pixels: Pixels, rng: Generator, c: tuple[float, float, float]) -> Levels:
    """Skew at random, then displace: (how far, how smoothly, how much the skew moves corners).

    244 where 224 was meant is the authors' own slip, and is in the released files.
    """
    reach, sigma, skew = c
    x = pixels.astype(np.float32) / 255
    height, width = x.shape[:2]
    down, right = np.mgrid[:height, :width].astype(np.float64)
    middle, arm = np.array([height, width]) // 2, min(height, width) // 3
    before = middle + arm * np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    after = before + rng.uniform(-skew, skew, (3, 2)).astype(np.float32)
    # (column, row, 1) of a pixel after the skew, times this, is where it was before.
    back = np.linalg.solve(np.c_[after, np.ones(3)], before)
    columns, rows = (right * back[0, i] + down * back[1, i] + back[2, i] for i in (0, 1))
    skewed = _moved(x, rows, columns, "mirror")
    across = reach * _smooth(rng.uniform(-1, 1, (height, width)), sigma)
    along = reach * _smooth(rng.uniform(-1, 1, (height, width)), sigma)
    return _moved(skewed, down + along, right + across, "reflect") * 255


def _moved(x: Levels, rows: Field, columns: Field, mode: str) -> Levels:
    found = np.empty_like(x)
    for i in range(x.shape[2]):
        map_coordinates(x[..., i], (rows, columns), found[..., i], order=1, mode=mode)
    return found


def _smooth(x: Field, sigma: float) -> Field:
    # A Gaussian filter, cut off at three sigmas, over a picture that is mirrored at its borders: a
    # product in the basis of cosines, at no cost for a kernel wider than the picture.
    taps = np.arange(1, int(3 * sigma + 0.5) + 1)
    bell = np.exp(-0.5 * (taps / max(sigma, 1e-9)) ** 2)
    total = 1 + 2 * bell.sum()
    gains = [
        (1 + 2 * np.cos(np.pi * np.outer(np.arange(n), taps) / n) @ bell) / total for n in x.shape
    ]
    spectrum: Any = dctn(x)
    smooth: Any = idctn(spectrum * np.outer(*gains))
    return smooth


@corruption(imagenet=(0.6, 0.5, 0.4, 0.3, 0.25), cifar10=(0.95, 0.9, 0.85, 0.75, 0.65))
def pixelate(pixels: Pixels, rng: Generator, factor: float) -> Levels:
    """Shrink to a factor of the size by means over boxes, and enlarge again by repeating pixels."""
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels)
    small = image.resize((int(width * factor), int(height * factor)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.NEAREST))


@corruption(imagenet=(25, 18, 15, 10, 7), cifar10=(80, 65, 58, 50, 40))
def jpeg_compression(pixels: Pixels, rng: Generator, quality: int) -> Levels:
    """Save as a JPEG file of this quality."""
    return as_jpeg(pixels, quality)


def as_jpeg(pixels: Pixels, quality: int) -> Pixels:
    """Return a picture after it was a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


@corruption(
    imagenet=((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2)),
    cifar10=((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)),
)
def saturate(pixels: Pixels, rng: Generator, c: tuple[float, float]) -> Levels:
    """Change the saturation of hue, saturation and value: (factor, addend)."""
    x = rgb2hsv(pixels / 255)
    x[..., 1] = np.clip(x[..., 1] * c[0] + c[1], 0, 1)
    return hsv2rgb(x) * 255
