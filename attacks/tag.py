"""TAG: Gradient Attack on Transformer-based Language Models (Deng et al., arXiv:2103.06819).

The paper's idea stays, on pictures instead of words: absolute differences beside squared ones. The
published recipe (`recipe=published`: all tensors as they are, with a weight that falls with depth,
Adam from noise; without the weight decay and the clipping of `breaching`) stays at the floor.
Repaired: only what lies nearest to the pixels, every token's row in its own units, corners rounded
off, and L-BFGS from gray in the place of Adam.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from privbench.attacks._matching.distances import by_token, compare_all, tag
from privbench.attacks._matching.engine import Matching
from privbench.attacks._matching.fading import BOX
from privbench.attacks._matching.optimizers import LBFGS, Adam, linear, warm_up
from privbench.attacks._matching.recipe import Comparison, Gradient, Recipe
from privbench.attacks._matching.rows import with_absolute
from privbench.observation import Observation

WARM_UP = 0.05
"""Share of the steps; `breaching` takes 50 of 1000."""


class TAG(Matching):
    """Squared and absolute gradient distance, the tensors nearest to the pixels first."""

    paper: ClassVar[str] = "after arXiv:2103.06819"
    version: ClassVar[int] = 2
    steps: Annotated[int, Field(ge=1)] = 462
    """Gradient evaluations of each restart; `breaching` takes 1000 for text."""
    lr: Annotated[float, Field(gt=0)] = 0.05
    """Of the published recipe, in units of the pixels' standard deviation."""
    restarts: Annotated[int, Field(ge=1)] = 1
    recipe: Literal["repaired", "published"] = "repaired"

    def compare(self, seen: Observation, shared: Gradient) -> Comparison:
        """Compare squared and absolute differences."""
        if self.recipe == "published":
            return compare_all(seen, shared, tag)
        return by_token(seen, shared, with_absolute)

    def descent(self, seen: Observation) -> Recipe:
        """Take no prior but the box; the published recipe knows neither it nor masks."""
        if self.recipe == "published":
            return Recipe(
                Adam(self.lr, warm_up(WARM_UP, linear)),
                self.steps,
                start="normal",
                aware=False,
                restarts=self.restarts,
            )
        return Recipe(LBFGS(), self.steps, priors=BOX, restarts=self.restarts)
