"""Deep Leakage from Gradients (Zhu, Liu and Han, NeurIPS 2019, arXiv:1906.08935).

The paper's idea stays: pixels and a soft label are moved together by L-BFGS until the squared
distance of the gradients is zero. The published recipe (`recipe=published`: all tensors in one
sum, from normal noise, without line search) does not get anywhere on a vision transformer.
Repaired: the position gradient counts token by token and the other tensors in their own units,
of all tensors only those nearest to the pixels and to the label, from gray, with a line search.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from privbench.attacks._matching.distances import by_token, compare_all, squared
from privbench.attacks._matching.engine import Matching
from privbench.attacks._matching.fading import BOX
from privbench.attacks._matching.optimizers import LBFGS
from privbench.attacks._matching.recipe import Comparison, Gradient, Recipe
from privbench.observation import Observation
from privbench.vit import ViT


class DeepLeakage(Matching):
    """Squared gradient distance by L-BFGS over pixels and soft labels together."""

    paper: ClassVar[str] = "after arXiv:1906.08935"
    version: ClassVar[int] = 3
    steps: Annotated[int, Field(ge=1)] = 462
    """Gradient evaluations of each restart; the authors' code takes 300 times 20."""
    restarts: Annotated[int, Field(ge=1)] = 1
    recipe: Literal["repaired", "published"] = "repaired"

    def compare(self, seen: Observation, shared: Gradient) -> Comparison:
        """Compare squared differences, the head's among them: it holds the label."""
        if self.recipe == "published":
            return compare_all(seen, shared, squared)
        return by_token(seen, shared, also=(ViT.HEAD, ViT.HEAD_BIAS))

    def descent(self, seen: Observation) -> Recipe:
        """Let labels move, too; the published recipe knows nothing of masks."""
        if self.recipe == "published":
            return Recipe(
                LBFGS(line_search=False),
                self.steps,
                start="normal",
                joint=True,
                aware=False,
                restarts=self.restarts,
            )
        return Recipe(
            LBFGS(),
            self.steps,
            priors=BOX,
            joint=True,
            restarts=self.restarts,
        )
