"""The mean-color picture: what anybody can answer who saw no update."""

from typing import ClassVar

from torch import Generator

from privbench.attack import Attack, Tick
from privbench.observation import Observation
from privbench.threat import Reconstruction


class MeanColor(Attack):
    """Floor for every table: one flat picture in the victim's mean color, blind to the update."""

    any_steps: ClassVar[bool] = True

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Repeat the public normalization mean."""
        picture = seen.model.vit.mean.expand(seen.shape).clone()
        tick(1, 1, 0.0)
        return Reconstruction(picture, objective=0.0)
