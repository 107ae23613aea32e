"""GradViT (Hatamizadeh et al., CVPR 2022, arXiv:2203.11894).

The paper's idea stays: gradient matching first, an image prior of BatchNorm statistics later, a
patch prior against seams. The published recipe (`recipe=published`: Adam over the norms of all
tensors' differences) takes 120,000 steps, and stays at the floor with ours. Repaired: tokens in
their own units, L-BFGS from gray, priors that fade in stages and are gone at the end, squared steps
across the seams. The statistics are those of a smaller network than the paper's ResNet-50 of
MoCo-v2. The registration loss is left out, as in the public re-implementations.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from privbench.attacks._matching.batchnorm import BUNDLED, BatchNormPrior, batch_norm
from privbench.attacks._matching.distances import by_token, compare_all, norms
from privbench.attacks._matching.engine import Matching
from privbench.attacks._matching.fading import BOX
from privbench.attacks._matching.optimizers import LBFGS, Adam, cosine
from privbench.attacks._matching.priors import (
    roughness,
    seam_roughness,
    seams,
    size,
    total_variation,
)
from privbench.attacks._matching.recipe import Comparison, Gradient, Priors, Recipe, Scalar, Stage
from privbench.observation import Observation
from privbench.threat import Images

FIRST_HALF, SECOND_HALF = 4e-3, 2e-3
"""Published weights of the gradient distance."""
IMAGE, PATCH, EXTRA = 0.2, 1e-4, 1e-4
"""Published weights of the image prior (second half), the seams, and total variation and norm."""

STAGES = (
    (3, 10.0, 0.0, 1.0),
    (4, 3.0, 0.0, 1.0),
    (4, 1.0, 0.0, 1.0),
    (4, 0.3, 1.0, 0.5),
    (3, 0.1, 1.0, 0.5),
    (4, 0.0, 0.0, 1.0),
)
"""Share of the evaluations in 22nds, and weights of smoothness, image prior and distance."""
SEAMS, STATISTICS = 0.3, 1e-4
"""Weights of the steps across seams, in units of smoothness, and of the image prior."""


class GradViT(Matching):
    """Gradient distance, with a patch prior, and an image prior in the second half."""

    paper: ClassVar[str] = "after arXiv:2203.11894"
    version: ClassVar[int] = 2
    steps: Annotated[int, Field(ge=1)] = 462
    """Gradient evaluations of each restart."""
    restarts: Annotated[int, Field(ge=1)] = 1
    prior: str = BUNDLED
    """The bundled ResNet-20 (32 px), or a safetensors file of MobileNetV2 for ImageNet."""
    lr: Annotated[float, Field(gt=0)] = 0.1
    """Of the published recipe, in units of the pixels' standard deviation."""
    recipe: Literal["repaired", "published"] = "repaired"

    def compare(self, seen: Observation, shared: Gradient) -> Comparison:
        """Compare differences: their norms as published, else squares in their own units."""
        return (
            compare_all(seen, shared, norms)
            if self.recipe == "published"
            else by_token(seen, shared)
        )

    def descent(self, seen: Observation) -> Recipe:
        """Bring the image prior in by halves; the published recipe knows nothing of masks."""
        vit = seen.model.vit
        network = batch_norm(self.prior, seen.shape[2], vit.mean)
        if self.recipe == "published":
            return self._published(network, vit.patch)

        def across(images: Images) -> Scalar:
            return seam_roughness(images, vit.patch)

        stages = tuple(
            Stage(
                share,
                ((weight, roughness), (SEAMS * weight, across), (STATISTICS * image, network)),
                matching,
            )
            for share, weight, image, matching in STAGES
        )
        return Recipe(LBFGS(), self.steps, stages=stages, priors=BOX, restarts=self.restarts)

    def _published(self, network: BatchNormPrior, patch: int) -> Recipe:
        always: Priors = (
            (PATCH, lambda images: seams(images, patch)),
            (EXTRA, total_variation),
            (EXTRA, size),
        )
        return Recipe(
            Adam(self.lr, cosine),
            self.steps,
            stages=(
                Stage(matching=FIRST_HALF),
                Stage(matching=SECOND_HALF, priors=((IMAGE, network),)),
            ),
            priors=always,
            start="uniform",
            aware=False,
            restarts=self.restarts,
        )
