"""What gradient matching is made of: a comparison, stages with priors, an optimizer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from privbench.attacks._matching.optimizers import LBFGS, Adam
from privbench.threat import Images

Gradient = Mapping[str, Tensor]
Facts = Mapping[str, Tensor]
Scalar = Float[Tensor, ""]
Priors = tuple[tuple[float, Callable[[Images], Scalar]], ...]
"""Weights, and what they weigh: terms of pictures in [0, 1], not clamped."""


@dataclass(frozen=True)
class Comparison:
    """What one update asks for."""

    names: tuple[str, ...]
    """Parameters whose gradient is compared."""
    facts: Facts
    """All that the distance has to know of this update."""
    distance: Callable[[Gradient, Facts], Scalar]
    """From a found gradient; the same function for all updates of a victim."""


@dataclass(frozen=True)
class Stage:
    """A part of the descent."""

    share: int = 1
    """Of the evaluations, in parts of the sum over all stages."""
    priors: Priors = ()
    """They guide this stage, and have no say in which point is the best."""
    matching: float = 1.0
    """Weight of the gradient distance."""
    group: Priors = ()
    """Terms of the difference to the restarts' mean picture, with their weights. The mean is that
    of the moment for Adam; L-BFGS needs a function that stays, so there it is that of the start."""


@dataclass(frozen=True)
class Recipe:
    """How to descend."""

    optimizer: Adam | LBFGS
    evaluations: int
    """Of the gradient, in each restart."""
    stages: tuple[Stage, ...] = (Stage(),)
    priors: Priors = ()
    """In all stages; the gradient distance plus these decides which point is the best."""
    start: Literal["gray", "normal", "uniform"] = "gray"
    """The mean color and a little noise, or normal noise around it, or uniform pixels."""
    boxed: bool = False
    """Whether pixels are put back into [0, 1] after each step of Adam."""
    joint: bool = False
    """Whether soft labels are moved along with the pixels."""
    aware: bool = True
    """Whether the model is run with the mask that the update gives away."""
    restarts: int = 1
    wide: bool = False
    """Whether everything is computed in float64."""

    def counts(self) -> list[int]:
        """Split the evaluations among the stages; with fewer than two none moves."""
        whole = sum(stage.share for stage in self.stages)
        return [max(2, round(self.evaluations * stage.share / whole)) for stage in self.stages]
