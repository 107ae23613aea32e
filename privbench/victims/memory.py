"""Whether a network fits into memory, asked before any of it is allocated."""

from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil
import timm
import torch
from torch import nn

from privbench.errors import BadSetting

ATTACKED = 3
"""Copies of the weights while a victim is attacked: they, the update, the attack's own gradient.

Differentiating twice keeps activations on top, which depend on attack and batch.
"""
MEASURED = 1
"""Copies of the weights while a model is only measured."""
BYTES = 4
"""Of a float32."""
BLOCK = 60_000
"""Bytes of a block's Python objects, without a number in it; measured with timm 1.0.31."""
SMALLER = ("vit_large", "vit_base", "vit_small", "vit_tiny")
"""Sizes of timm's ViT that are offered instead, largest first; their names end alike."""
GROUPS = Path("/sys/fs/cgroup")
"""Where Linux keeps what a group of processes, such as a container, may use and uses."""
OLD = GROUPS / "memory"
"""The same in the first version of such groups."""
CACHE = "inactive_file "
"""Of what a group uses, this goes when memory gets scarce."""


def require(network: nn.Module, name: str, copies: int, device: torch.device | None = None) -> None:
    """Raise BadSetting if a network's weights, or copies of them on a device, do not fit.

    The network may be on the meta device, where it takes no memory.
    """
    size = _numbers(network) * BYTES
    count = copies if device is None or device.type == "cpu" else 1  # built first, then moved
    _compare(size, count, free(), name)
    if device is not None and device.type == "cuda":
        _compare(size, copies, torch.cuda.mem_get_info(device)[0], name, " on the device")


def require_blocks(depth: int, width: int, name: str) -> None:
    """Raise BadSetting if so many blocks could not even be sketched."""
    least, room = depth * (12 * width**2 * BYTES + BLOCK), free()
    if least > room:
        raise BadSetting(
            f"{name}: {depth} blocks of width {width} need {least / 1e9:.1f} GB or more, but "
            f"{room / 1e9:.1f} GB are free. Set a smaller depth or embed_dim."
        )


def _compare(size: int, copies: int, room: int, name: str, where: str = "") -> None:
    if size * copies <= room:
        return
    smaller = next((one for one in _ladder() if _size(one) * copies <= room), None)
    advice = f"Choose a smaller model, such as timm:{smaller}" if smaller else "Free some memory"
    total = f"{size * copies / 1e9:.1f} GB"
    need = f"{total} for its weights" if copies == 1 else f"{total} for weights and gradients"
    raise BadSetting(
        f"{name} has {size / BYTES / 1e6:.0f} million parameters and needs {need}, but "
        f"{room / 1e9:.1f} GB are free{where}. {advice}, or use a computer with more."
    )


def free() -> int:
    """Return the bytes that this process may still allocate: of machine, group and limit."""
    return max(min([psutil.virtual_memory().available, *_allowed()]), 0)


def _allowed() -> Iterator[int]:
    """Yield what limits leave, each where there is one."""
    for group in _groups():
        with suppress(OSError, ValueError):  # none, or "max"
            used = int((group / "memory.current").read_text())
            yield int((group / "memory.max").read_text()) - used + _cache(group)
    with suppress(OSError, ValueError):
        used = int((OLD / "memory.usage_in_bytes").read_text())
        yield int((OLD / "memory.limit_in_bytes").read_text()) - used + _cache(OLD)
    try:
        import resource  # Unix only
    except ImportError:
        return
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        yield soft - psutil.Process().memory_info().vms


def _groups() -> list[Path]:
    """Return the folders of this process's group and of those that it is in."""
    own = ""
    with suppress(OSError):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = next((line[4:] for line in lines if line.startswith("0::/")), "")
    inside = GROUPS / own
    return [one for one in (inside, *inside.parents) if one.is_relative_to(GROUPS)]


def _cache(group: Path) -> int:
    lines = (group / "memory.stat").read_text().splitlines()
    return int(next((line[len(CACHE) :] for line in lines if line.startswith(CACHE)), 0))


def _numbers(network: nn.Module) -> int:
    return sum(tensor.numel() for tensor in network.state_dict().values())


def _ladder() -> list[str]:
    return [f"{size}_patch16_224" for size in SMALLER]


@cache
def _size(name: str) -> int:
    with torch.device("meta"):
        return _numbers(timm.create_model(name)) * BYTES
