"""Improved Deep Leakage from Gradients (Zhao, Mopuri and Bilen, 2020, arXiv:2001.02610).

The paper's idea stays: the label is read off the head's gradient, then L-BFGS moves the pixels
alone. Its rule, the smallest sum of a row, is right where features are positive, which those
behind a LayerNorm are not; here the signs of the bias gradient tell. The rest is repaired as in
`dlg`. `recipe=published` has the paper's rule and its descent.
"""

from typing import Annotated, ClassVar, Literal

from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from privbench.attacks._matching.distances import by_token, compare_all, squared
from privbench.attacks._matching.engine import Matching
from privbench.attacks._matching.fading import BOX
from privbench.attacks._matching.optimizers import LBFGS
from privbench.attacks._matching.recipe import Comparison, Gradient, Recipe
from privbench.attacks._update.labels import smallest_sum
from privbench.attacks._update.reading import labels
from privbench.attacks._update.wire import as_gradient
from privbench.observation import Observation
from privbench.vit import ViT


class ImprovedDeepLeakage(Matching):
    """Squared gradient distance by L-BFGS over pixels, for the label that the head gives away."""

    paper: ClassVar[str] = "after arXiv:2001.02610"
    version: ClassVar[int] = 2
    steps: Annotated[int, Field(ge=1)] = 462
    """Gradient evaluations of each restart."""
    restarts: Annotated[int, Field(ge=1)] = 1
    recipe: Literal["repaired", "published"] = "repaired"

    def known(self, seen: Observation) -> Int[Tensor, " b"]:
        """Read the label; for more than one image the paper has no rule."""
        rows = as_gradient(seen).get(ViT.HEAD)
        if self.recipe == "published" and seen.labels is None and rows is not None:
            return smallest_sum(rows) if seen.shape[0] == 1 else labels(seen)
        return labels(seen)

    def compare(self, seen: Observation, shared: Gradient) -> Comparison:
        """Compare squared differences."""
        return (
            compare_all(seen, shared, squared)
            if self.recipe == "published"
            else by_token(seen, shared)
        )

    def descent(self, seen: Observation) -> Recipe:
        """Move pixels alone; the published recipe knows nothing of masks."""
        if self.recipe == "published":
            return Recipe(
                LBFGS(line_search=False),
                self.steps,
                start="normal",
                aware=False,
                restarts=self.restarts,
            )
        return Recipe(LBFGS(), self.steps, priors=BOX, restarts=self.restarts)
