"""Training: all that decides a victim's weights, as the loop takes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from privbench.training.recipe import Recipe
from privbench.training.split import Split
from privbench.victims.load import Victim


@dataclass(frozen=True)
class Training:
    """All that decides the weights, and where they go."""

    victim: Victim
    recipe: Recipe
    seed: int
    train: Split
    test: Split
    identity: Mapping[str, Any]
    """Names, settings and data hashes: a checkpoint goes on only with its own."""
    folder: Path
    engine: Accelerator
    """One process or several, started by torchrun: they share each batch among them."""
    workers: int = 0
    """Processes that augment pictures, per process that trains; no answer depends on it."""
