"""Inverting Gradients (Geiping et al., NeurIPS 2020, arXiv:2003.14053), made to work on ViTs.

The published recipe (`gradinv_published`) lowers its objective by orders of magnitude on a vision
transformer without the picture coming nearer: almost all of the position gradient is one direction
that the tokens share, and a cosine over everything hardly sees the rest. Here each token's row
counts in its own units, the smoothness prior fades in stages, and L-BFGS takes the place of signed
Adam. The paper's idea stays: pixels are moved, through the model's own gradient, until that
gradient equals the shared one.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from privbench.attacks._matching.distances import by_token
from privbench.attacks._matching.engine import Matching
from privbench.attacks._matching.fading import BOX, fading
from privbench.attacks._matching.optimizers import LBFGS
from privbench.attacks._matching.recipe import Comparison, Gradient, Recipe
from privbench.observation import Observation


class InvertingGradients(Matching):
    """Gradient matching over pixels, token by token, by L-BFGS from a gray picture."""

    paper: ClassVar[str] = "after arXiv:2003.14053"
    version: ClassVar[int] = 3
    steps: Annotated[int, Field(ge=1)] = 462
    """Gradient evaluations of each restart, which are steps and trials of L-BFGS."""
    restarts: Annotated[int, Field(ge=1)] = 1
    mask: Literal["inferred", "ignored"] = "inferred"
    """Whether the model is run with the mask that the update gives away."""
    precision: Literal["float32", "float64"] = "float32"
    """Of the descent; the wider one tells whether rounding is what stops it."""

    def compare(self, seen: Observation, shared: Gradient) -> Comparison:
        """Compare token by token."""
        return by_token(seen, shared)

    def descent(self, seen: Observation) -> Recipe:
        """Let the smoothness prior fade."""
        return Recipe(
            LBFGS(),
            self.steps,
            stages=fading(),
            priors=BOX,
            aware=self.mask == "inferred",
            restarts=self.restarts,
            wide=self.precision == "float64",
        )
