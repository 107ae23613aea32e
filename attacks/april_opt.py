"""APRIL's optimization attack (Lu et al., CVPR 2022, arXiv:2112.14087).

The paper's idea stays: squared gradient distance, and the position gradient by its direction. The
direction over all tokens is nearly the same for any picture, since the tokens share it; here each
token's row is compared beside that shared direction (`recipe=published` compares the whole, by
Adam with settings of our choice, as the paper names none). L-BFGS from gray takes Adam's place.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from privbench.attacks._matching.distances import (
    by_token,
    compare_all,
    direction_of_positions,
)
from privbench.attacks._matching.engine import Matching
from privbench.attacks._matching.fading import BOX
from privbench.attacks._matching.optimizers import LBFGS, Adam, cosine
from privbench.attacks._matching.recipe import Comparison, Gradient, Recipe
from privbench.attacks._matching.rows import by_direction
from privbench.observation import Observation


class AprilOptimization(Matching):
    """Squared gradient distance, with the position gradient compared by direction."""

    paper: ClassVar[str] = "after arXiv:2112.14087"
    version: ClassVar[int] = 2
    steps: Annotated[int, Field(ge=1)] = 462
    """Gradient evaluations of each restart."""
    lr: Annotated[float, Field(gt=0)] = 0.1
    """Of the published recipe, in units of the pixels' standard deviation; our choice."""
    restarts: Annotated[int, Field(ge=1)] = 1
    recipe: Literal["repaired", "published"] = "repaired"

    def compare(self, seen: Observation, shared: Gradient) -> Comparison:
        """Compare squared differences and directions."""
        if self.recipe == "published":
            return compare_all(seen, shared, direction_of_positions)
        return by_token(seen, shared, by_direction)

    def descent(self, seen: Observation) -> Recipe:
        """Take no prior but the box; the published recipe knows neither it nor masks."""
        if self.recipe == "published":
            return Recipe(
                Adam(self.lr, cosine),
                self.steps,
                start="normal",
                aware=False,
                restarts=self.restarts,
            )
        return Recipe(LBFGS(), self.steps, priors=BOX, restarts=self.restarts)
