"""Random pixels: an answer that knows nothing, not even the mean color."""

from typing import ClassVar

import torch
from torch import Generator

from privbench.attack import Attack, Tick
from privbench.observation import Observation
from privbench.threat import Reconstruction


class RandomPixels(Attack):
    """Second floor: pixels drawn uniformly from [0, 1], blind to the update."""

    any_steps: ClassVar[bool] = True

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Draw every pixel by itself."""
        picture = torch.rand(seen.shape, generator=rng).to(seen.model.vit.mean)
        tick(1, 1, 0.0)
        return Reconstruction(picture, objective=0.0)
