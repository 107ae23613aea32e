"""Versions and device of a run; no host name, no user name, no path."""

import platform
from importlib.metadata import version

import torch

from privbench.errors import NoDevice, UnknownName

PACKAGES = ("privbench", "torch", "torchvision", "timm", "numpy", "lpips", "scikit-image")


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


def describe(where: torch.device) -> dict[str, str]:
    """Return versions by package, and what the run ran on."""
    found = {name: version(name) for name in PACKAGES}
    found["python"] = platform.python_version()
    found["device"] = torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu"
    return found
