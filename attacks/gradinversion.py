"""GradInversion (Yin et al., CVPR 2021, arXiv:2104.07586).

The paper's idea stays: squared gradient distance, a prior of BatchNorm statistics, smoothness, and
seeds that pull each other to their mean. It takes the statistics from the victim; a ViT has none,
so an external network lends its own. The published recipe (`recipe=published`: Adam over all
tensors in one sum, without the Langevin noise and the registration of seeds) stays at the floor on
a ViT. Repaired: tokens in their own units, L-BFGS from gray, and priors that fade in stages.
"""

from typing import Annotated, ClassVar, Literal

from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from privbench.attacks._matching.batchnorm import BUNDLED, batch_norm
from privbench.attacks._matching.distances import by_token, compare_all, squared
from privbench.attacks._matching.engine import Matching
from privbench.attacks._matching.fading import BOX, FADING
from privbench.attacks._matching.optimizers import LBFGS, Adam, cosine, warm_up
from privbench.attacks._matching.priors import mean_square, roughness, size, total_variation
from privbench.attacks._matching.recipe import Comparison, Gradient, Priors, Recipe, Stage
from privbench.attacks._update.labels import smallest_entries
from privbench.attacks._update.reading import labels
from privbench.attacks._update.wire import as_gradient
from privbench.observation import Observation
from privbench.vit import ViT

FIRST = 10.0
"""Weight of the first BatchNorm layer among the layers."""
WARM_UP = 50 / 20_000
"""Published share of the steps."""
STATISTICS, GROUP = 1e-4, 0.3
"""Weights of the BatchNorm prior and of the group, in units of the smoothness prior's."""


class GradInversion(Matching):
    """Squared gradient distance, BatchNorm statistics, smoothness, and seeds that agree."""

    paper: ClassVar[str] = "after arXiv:2104.07586"
    version: ClassVar[int] = 2
    steps: Annotated[int, Field(ge=1)] = 231
    """Gradient evaluations of each seed; the paper takes 20,000."""
    seeds: Annotated[int, Field(ge=1)] = 2
    """With `steps` this is the budget of `gradinv`."""
    prior: str = BUNDLED
    """The bundled ResNet-20 (32 px), or a safetensors file of MobileNetV2 for ImageNet."""
    lr: Annotated[float, Field(gt=0)] = 0.1
    """Of the published recipe, in units of the pixels' standard deviation."""
    recipe: Literal["repaired", "published"] = "repaired"

    def known(self, seen: Observation) -> Int[Tensor, " b"]:
        """Read labels off the head; the paper's rule needs features without sign."""
        rows = as_gradient(seen).get(ViT.HEAD)
        if self.recipe == "published" and seen.labels is None and rows is not None:
            return smallest_entries(rows, seen.shape[0])
        return labels(seen)

    def compare(self, seen: Observation, shared: Gradient) -> Comparison:
        """Compare squared differences."""
        return (
            compare_all(seen, shared, squared)
            if self.recipe == "published"
            else by_token(seen, shared)
        )

    def descent(self, seen: Observation) -> Recipe:
        """Weigh the priors: fixed as published, which knows nothing of masks, else fading."""
        network = batch_norm(self.prior, seen.shape[2], seen.model.vit.mean, FIRST)
        if self.recipe == "published":
            priors: Priors = ((0.1, network), (1e-4, total_variation), (1e-6, size))
            return Recipe(
                Adam(self.lr, warm_up(WARM_UP, cosine)),
                self.steps,
                stages=(Stage(matching=1e-3, group=((0.01, size),)),),
                priors=priors,
                start="normal",
                aware=False,
                restarts=self.seeds,
            )
        stages = tuple(
            Stage(
                share,
                ((weight, roughness), (STATISTICS * weight, network)),
                group=((GROUP * weight, mean_square),),
            )
            for weight, share in FADING
        )
        return Recipe(LBFGS(), self.steps, stages=stages, priors=BOX, restarts=self.seeds)
