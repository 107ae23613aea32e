"""Inverting Gradients (Geiping et al., NeurIPS 2020, arXiv:2003.14053), as published."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from privbench.attack import Attack, Tick
from privbench.attacks._matching import cosine, total_variation
from privbench.attacks._reading import from_pictures, labels, mask
from privbench.observation import Observation
from privbench.threat import Draw, Images, Reconstruction

DECAYS = (3 / 8, 5 / 8, 7 / 8)


class PublishedInvertingGradients(Attack):
    """The published recipe: cosine distance, total variation, signed Adam, step decay."""

    paper: ClassVar[str] = "arXiv:2003.14053"
    steps: Annotated[int, Field(ge=1)] = 440
    """The budget of `gradinv`; the paper takes 24,000 on ImageNet."""
    lr: Annotated[float, Field(gt=0)] = 0.1
    """In units of the pixels' standard deviation."""
    tv: Annotated[float, Field(ge=0)] = 0.2
    restarts: Annotated[int, Field(ge=1)] = 1
    mask: Literal["inferred", "ignored"] = "inferred"
    """Whether the model is run with the mask that the update gives away."""

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Return the restart with the lowest objective."""
        known = labels(seen)
        draw = mask(seen) if self.mask == "inferred" else None
        found = [
            self._descend(seen, known, draw, rng, tick, i * self.steps)
            for i in range(self.restarts)
        ]
        images, objective = min(found, key=lambda one: one[1])
        return Reconstruction(images, objective, known, self.steps * self.restarts)

    def _descend(
        self,
        seen: Observation,
        known: Tensor,
        draw: Draw | None,
        rng: Generator,
        tick: Tick,
        before: int,
    ) -> tuple[Images, float]:
        vit, shared = seen.model.vit, from_pictures(seen)
        low, high = (0 - vit.mean) / vit.std, (1 - vit.mean) / vit.std
        pixels = torch.randn(seen.shape, generator=rng).to(vit.mean.device).requires_grad_()
        optimizer = torch.optim.Adam([pixels], lr=self.lr)
        decay = torch.optim.lr_scheduler.MultiStepLR(
            optimizer, [int(self.steps * share) for share in DECAYS], gamma=0.1
        )
        lowest, answer = float("inf"), pixels.detach().clone()
        for step in range(self.steps):
            images = pixels * vit.std + vit.mean
            distance = cosine(seen.model.gradient(images, known, draw), shared)
            objective = distance + self.tv * total_variation(pixels)
            (slope,) = torch.autograd.grad(objective, pixels)
            if (value := objective.item()) < lowest:
                lowest, answer = value, pixels.detach().clone()
            pixels.grad = slope.sign()
            optimizer.step()
            decay.step()
            with torch.no_grad():
                pixels.copy_(pixels.clamp(low, high))
            tick(before + step + 1, self.steps * self.restarts, value)
        return (answer * vit.std + vit.mean).clamp(0, 1), lowest
