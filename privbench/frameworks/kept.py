"""Writes a client's weights before and after a round as files that an audit reads."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

BEFORE, AFTER = "before.npz", "after.npz"


def keep(path: Path, weights: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name; those that are but numbered, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if all(key.isdecimal() for key in weights):
        np.savez(path, *(weights[key] for key in sorted(weights, key=int)))
    else:
        np.savez(path, allow_pickle=False, **weights)
