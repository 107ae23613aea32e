"""Versions and device of a run; no host name, no user name, no path."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import torch

from privbench.errors import NoDevice, UnknownName

PACKAGES = ("privbench", "torch", "torchvision", "timm", "numpy", "lpips", "scikit-image")

WORTH_SHARING = 2**15
"""Numbers in one layer's tokens from which on a second core helps; a ViT-S/16 has 75,648."""


def device(name: str) -> torch.device:
    """Return the device for auto, cpu or cuda; raises NoDevice without CUDA."""
    if name not in ("auto", "cpu", "cuda"):
        raise UnknownName("device", name, ("auto", "cpu", "cuda"))
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise NoDevice("This computer has no CUDA device. Use --device cpu, or leave --device out.")
    # TensorFloat-32 keeps ten bits of a gradient, which would be a defense that nobody chose.
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if has_cuda and name != "cpu" else "cpu")


@contextmanager
def spread(numbers_per_layer: int) -> Iterator[None]:
    """Run on one core what is too small to share: there, waiting for each other costs more.

    On a busy computer it costs up to ten times more (measured at 32 px), hence this is no option.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if numbers_per_layer < WORTH_SHARING else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def describe(where: torch.device) -> dict[str, str]:
    """Return versions by package, and what the run ran on."""
    found = {name: version(name) for name in PACKAGES}
    found["python"] = platform.python_version()
    found["device"] = torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu"
    return found
