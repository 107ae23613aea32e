"""Weather: snow, frost, fog, brightness; and spatter, for validation (arXiv:1903.12261)."""

from functools import cache
from importlib.resources import files

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from skimage.color import hsv2rgb, rgb2hsv

from privbench.corruptions._liquid import droplets
from privbench.corruptions._motion import along, zoomed
from privbench.corruptions._plasma import plasma
from privbench.corruptions._recipe import Levels, Pixels, corruption
from privbench.corruptions.blur import blurred

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Shares of red, green and blue in brightness (ITU-R BT.601)."""
WATER = np.array([175, 238, 238], np.float32) / 255
MUD = np.array([63, 42, 20], np.float32) / 255
"""Colors in red, green and blue, as released."""
TEXTURES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
"""The authors made six, but their code draws one of five."""
TEXTURE_STEP = 5
"""A texture is a fifth in size at 32 px, by nearest pixels."""
SMALL = 64
"""Side in pixels up to which a picture is small; the recipes know 32 and 224."""


@corruption(
    imagenet=(
        (0.1, 0.3, 3.0, 0.5, 10, 4.0, 0.8),
        (0.2, 0.3, 2.0, 0.5, 12, 4.0, 0.7),
        (0.55, 0.3, 4.0, 0.9, 12, 8.0, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8.0, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12.0, 0.55),
    ),
    cifar10=(
        (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
    ),
)
def snow(
    pixels: Pixels, rng: Generator, c: tuple[float, float, float, float, int, float, float]
) -> Levels:
    """Add flakes that fall askew, and whiten.

    (mean, deviation, enlargement, threshold of the flakes; radius, sigma of their fall; how much
    of the picture stays)
    """
    mean, deviation, factor, threshold, radius, sigma, kept = c
    x = pixels.astype(np.float32) / 255
    flakes = zoomed(rng.normal(mean, deviation, x.shape[:2]), factor)
    flakes = np.where(flakes < threshold, 0, flakes)
    # The authors hand the flakes to another program and back as files of 8 bits.
    flakes = np.floor(np.clip(flakes, 0, 1) * 255)
    fallen = np.round(along(flakes, radius, sigma, angle=rng.uniform(-135, -45)))[..., None] / 255
    bright = np.maximum(x, (x @ LUMA)[..., None] * 1.5 + 0.5)
    x = kept * x + (1 - kept) * bright
    return (x + fallen + np.rot90(fallen, 2)) * 255


@corruption(
    imagenet=((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    cifar10=((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
)
def frost(pixels: Pixels, rng: Generator, c: tuple[float, float]) -> Levels:
    """Lay a piece of a photograph of frost over it: (weight of the picture, of the frost)."""
    height, width = pixels.shape[:2]
    ice = _texture(int(rng.integers(len(TEXTURES))))
    if height < SMALL:
        ice = ice[TEXTURE_STEP // 2 :: TEXTURE_STEP, TEXTURE_STEP // 2 :: TEXTURE_STEP]
    top = rng.integers(0, ice.shape[0] - height)
    left = rng.integers(0, ice.shape[1] - width)
    return c[0] * pixels + c[1] * ice[top : top + height, left : left + width]


@cache
def _texture(number: int) -> Pixels:
    with (files("privbench.assets") / TEXTURES[number]).open("rb") as file:
        # Their transparency is dropped, not applied.
        return np.asarray(Image.open(file))[..., :3]


@corruption(
    imagenet=((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)),
    cifar10=((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),
)
def fog(pixels: Pixels, rng: Generator, c: tuple[float, float]) -> Levels:
    """Add a random cloud, and darken to the old maximum: (its weight, its smoothness)."""
    weight, decay = c
    x = pixels / 255
    height, width = x.shape[:2]
    side = 1 << (max(height, width) - 1).bit_length()
    brightest = x.max()
    x += weight * plasma(side, decay, rng)[:height, :width, None]
    return x * brightest / (brightest + weight) * 255


@corruption(imagenet=(0.1, 0.2, 0.3, 0.4, 0.5), cifar10=(0.05, 0.1, 0.15, 0.2, 0.3))
def brightness(pixels: Pixels, rng: Generator, more: float) -> Levels:
    """Add to the value of hue, saturation and value."""
    x = rgb2hsv(pixels / 255)
    x[..., 2] = np.clip(x[..., 2] + more, 0, 1)
    return hsv2rgb(x) * 255


@corruption(
    imagenet=(
        (0.65, 0.3, 4.0, 0.69, 0.6, False),
        (0.65, 0.3, 3.0, 0.68, 0.6, False),
        (0.65, 0.3, 2.0, 0.68, 0.5, False),
        (0.65, 0.3, 1.0, 0.65, 1.5, True),
        (0.67, 0.4, 1.0, 0.65, 1.5, True),
    ),
    cifar10=(
        (0.62, 0.1, 0.7, 0.7, 0.5, False),
        (0.65, 0.1, 0.8, 0.7, 0.5, False),
        (0.65, 0.3, 1.0, 0.69, 0.5, False),
        (0.65, 0.1, 0.7, 0.69, 0.6, True),
        (0.65, 0.1, 0.5, 0.68, 0.6, True),
    ),
)
def spatter(
    pixels: Pixels, rng: Generator, c: tuple[float, float, float, float, float, bool]
) -> Levels:
    """Spray water or mud on the lens.

    (mean, deviation, smoothing, threshold of the liquid; how opaque water is, or how smooth the
    rims of mud are; whether it is mud)
    """
    mean, deviation, smoothing, threshold, strength, mud = c
    x = pixels.astype(np.float32) / 255
    liquid = blurred(rng.normal(mean, deviation, x.shape[:2]), smoothing)
    liquid = np.where(liquid < threshold, 0, liquid)
    if not mud:
        cover: NDArray[np.float32] = droplets((liquid * 255).astype(np.uint8))
        return (x + strength * cover[..., None] * WATER) * 255
    cover = blurred((liquid > threshold).astype(np.float32), strength)
    cover = np.where(cover < 0.8, 0, cover)[..., None]
    return (x * (1 - cover) + MUD * cover) * 255
