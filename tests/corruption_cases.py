"""A picture to corrupt, draws that two programs can share, and what is remembered of a picture."""

from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SEED = 3
BLOCKS = 4


class Shared(np.random.Generator):
    """The draws that corruptions ask for, from the stream that numpy.random.seed starts."""

    def __init__(self, seed: int) -> None:
        super().__init__(np.random.PCG64(0))
        stream: Any = np.random.RandomState(seed)
        self.poisson = stream.poisson
        self.normal = stream.normal
        self.uniform = stream.uniform
        self.integers = stream.randint


def draws(name: str) -> Any:
    """Return what a corruption draws from when it is compared; scikit-image wants a Generator."""
    return np.random.default_rng(SEED) if name == "impulse_noise" else Shared(SEED)


def picture(side: int = 224) -> NDArray[np.uint8]:
    """Return bundled CIFAR-10 pictures side by side: (side, side, 3)."""
    with (files("privbench.assets") / "cifar10_sample.webp").open("rb") as file:
        sheet = np.asarray(Image.open(file).convert("RGB"))
    return np.ascontiguousarray(sheet[:side, :side])


def sketch(pixels: NDArray[np.uint8]) -> list[float]:
    """Return means of 4 x 4 blocks by channel, deviations, and mean steps across and down."""
    x = pixels.astype(np.float64)
    size = len(x) // BLOCKS
    means = x.reshape(BLOCKS, size, BLOCKS, size, 3).mean((1, 3))
    steps = [np.abs(np.diff(x, axis=axis)).mean((0, 1)) for axis in (0, 1)]
    found = np.concatenate([means.ravel(), x.std((0, 1)), *steps])
    return [round(float(value), 2) for value in found]
