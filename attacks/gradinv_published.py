"""Inverting Gradients (Geiping et al., NeurIPS 2020, arXiv:2003.14053), as published."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from privbench.attacks._matching.distances import compare_all, cosine
from privbench.attacks._matching.engine import Matching
from privbench.attacks._matching.optimizers import Adam, step_decay
from privbench.attacks._matching.priors import total_variation
from privbench.attacks._matching.recipe import Comparison, Gradient, Recipe
from privbench.observation import Observation


class PublishedInvertingGradients(Matching):
    """The published recipe: cosine distance, total variation, signed Adam, step decay."""

    paper: ClassVar[str] = "arXiv:2003.14053"
    version: ClassVar[int] = 3
    steps: Annotated[int, Field(ge=1)] = 440
    """About the budget of `gradinv`; the paper takes 24,000 on ImageNet."""
    lr: Annotated[float, Field(gt=0)] = 0.1
    """In units of the pixels' standard deviation."""
    tv: Annotated[float, Field(ge=0)] = 0.2
    """Weight of the total variation, of pixels in the same units."""
    restarts: Annotated[int, Field(ge=1)] = 1
    mask: Literal["inferred", "ignored"] = "inferred"
    """Whether the model is run with the mask that the update gives away."""

    def compare(self, seen: Observation, shared: Gradient) -> Comparison:
        """Compare all tensors at once."""
        return compare_all(seen, shared, cosine, angular=True)

    def descent(self, seen: Observation) -> Recipe:
        """Start from noise and stay in the box."""
        std = seen.model.vit.std
        return Recipe(
            Adam(self.lr, step_decay, signed=True),
            self.steps,
            priors=((self.tv, lambda images: total_variation(images / std)),),
            start="normal",
            boxed=True,
            aware=self.mask == "inferred",
            restarts=self.restarts,
        )
