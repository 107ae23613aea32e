"""Versions, device and cores of a run; no host name, no user name, no path."""

import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch

import privbench
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
def lanes(where: torch.device, numbers_per_layer: int, wish: int | None) -> Iterator[int]:
    """Yield how many cases run at once, each on its share of the cores.

    By default one a core where a case is too small to be worth sharing: there, cores that wait
    for each other cost more than they bring (on a busy computer up to ten times more, measured
    at 32 px). Larger cases, and all on an accelerator, run one by one.
    """
    cores = torch.get_num_threads()
    count, threads = shares(where, numbers_per_layer, wish, cores)
    torch.set_num_threads(threads)
    try:
        yield count
    finally:
        torch.set_num_threads(cores)


def shares(
    where: torch.device, numbers_per_layer: int, wish: int | None, cores: int
) -> tuple[int, int]:
    """Return how many cases run at once, and how many cores each of them has."""
    small = where.type == "cpu" and numbers_per_layer < WORTH_SHARING
    count = wish or (cores if small else 1)
    return count, 1 if small else max(1, cores // count)


def revision() -> str:
    """Return the git commit that this code was checked out from, "+" if edited; "" without git."""
    git = shutil.which("git")
    root = Path(privbench.__file__).parents[1]  # wherever this file moves to
    if git is None or not (root / ".git").exists():
        return ""

    def ask(*words: str) -> str:
        done = subprocess.run([git, "-C", str(root), *words], capture_output=True, text=True)  # noqa: S603
        return done.stdout.strip()

    return ask("rev-parse", "HEAD") + ("+" if ask("status", "--porcelain", "-uno") else "")


def describe(where: torch.device) -> dict[str, str]:
    """Return versions by package, and what the run ran on."""
    found = {name: version(name) for name in PACKAGES}
    found["python"] = platform.python_version()
    found["device"] = torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu"
    return found
