"""Noise: Gaussian, shot, impulse; and speckle, for validation (arXiv:1903.12261, section 4.1)."""

from numpy.random import Generator
from skimage.util import random_noise

from privbench.corruptions._recipe import Levels, Pixels, corruption


@corruption(imagenet=(0.08, 0.12, 0.18, 0.26, 0.38), cifar10=(0.04, 0.06, 0.08, 0.09, 0.10))
def gaussian_noise(pixels: Pixels, rng: Generator, scale: float) -> Levels:
    """Add normal noise, as of a sensor in low light."""
    return (pixels / 255 + rng.normal(scale=scale, size=pixels.shape)) * 255


@corruption(imagenet=(60, 25, 12, 5, 3), cifar10=(500, 250, 100, 75, 50))
def shot_noise(pixels: Pixels, rng: Generator, photons: int) -> Levels:
    """Draw from a Poisson distribution: so many photons are white."""
    return rng.poisson(pixels / 255 * photons) / photons * 255


@corruption(imagenet=(0.03, 0.06, 0.09, 0.17, 0.27), cifar10=(0.01, 0.02, 0.03, 0.05, 0.07))
def impulse_noise(pixels: Pixels, rng: Generator, amount: float) -> Levels:
    """Set a share of the values to black or white, as of errors in transmission."""
    return random_noise(pixels / 255, mode="s&p", rng=rng, amount=amount) * 255


@corruption(imagenet=(0.15, 0.2, 0.35, 0.45, 0.6), cifar10=(0.06, 0.1, 0.12, 0.16, 0.2))
def speckle_noise(pixels: Pixels, rng: Generator, scale: float) -> Levels:
    """Multiply by normal noise around 1."""
    x = pixels / 255
    return (x + x * rng.normal(scale=scale, size=x.shape)) * 255
