"""Reads weights or a gradient as frameworks store them: by name, or as a list in order."""

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from privbench.errors import BadWeights
from privbench.victims.checkpoint_file import read

NUMBERED = re.compile(r"arr_(\d+)")
"""Names that numpy gives arrays that were stored without any."""

Source = str | Path | Mapping[str, Any] | Sequence[Any]
"""A file, a state dict, or arrays in the order of the model's state dict."""
Content = Mapping[str, Any] | list[Tensor]


def content(source: Source, label: str) -> Content:
    """Return a file's or a program's tensors: by name (other entries may stand beside), or a list.

    Files are safetensors, state dicts that torch.save wrote, and .npz; no code of a file runs.
    Raises BadWeights.
    """
    if isinstance(source, str | Path):
        return _of_file(Path(source))
    if isinstance(source, Mapping):
        return {
            key: _tensor(value, label) if isinstance(value, np.ndarray) else value
            for key, value in source.items()
        }
    return [_tensor(one, label) for one in source]


def _of_file(file: Path) -> Content:
    if not file.is_file() or not _is_numpy(file):
        found = read(file)
        if isinstance(found, list | tuple):
            return [_tensor(one, f"'{file.name}'") for one in found]
        return found
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except ValueError:
        raise BadWeights(
            f"'{file.name}' holds more than arrays of numbers, which could run code, so it was not "
            "read. Save each tensor as one array with numpy.savez."
        ) from None
    except (OSError, KeyError, zipfile.BadZipFile):
        raise BadWeights(f"'{file.name}' is a damaged .npz file. Save it again.") from None
    numbers = {name: NUMBERED.fullmatch(name) for name in arrays}
    if not all(numbers.values()):
        return {name: _tensor(one, f"'{file.name}'") for name, one in arrays.items()}
    order = sorted(arrays, key=lambda name: int(name.removeprefix("arr_")))
    return [_tensor(arrays[name], f"'{file.name}'") for name in order]


def _is_numpy(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return file.suffix == ".npz"
    with zipfile.ZipFile(file) as archive:
        return all(name.endswith(".npy") for name in archive.namelist())


def _tensor(value: Any, label: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    try:
        return torch.from_numpy(np.array(value))
    except (TypeError, ValueError):
        raise BadWeights(
            f"{label} holds {type(value).__name__} where an array of numbers should be. Save "
            "tensors alone."
        ) from None
