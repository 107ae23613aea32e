"""Deep Leakage from Gradients (Zhu, Liu and Han, NeurIPS 2019, arXiv:1906.08935)."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor

from privbench.attack import Attack, Tick
from privbench.attacks._matching import squared
from privbench.attacks._reading import from_pictures
from privbench.observation import Observation
from privbench.threat import Reconstruction


class DeepLeakage(Attack):
    """Squared gradient distance by L-BFGS over pixels and soft labels; knows nothing of masks."""

    paper: ClassVar[str] = "arXiv:1906.08935"
    steps: Annotated[int, Field(ge=1)] = 22
    """Outer steps; with `inner` this is the budget of `gradinv`. The authors' code takes 300."""
    inner: Annotated[int, Field(ge=1)] = 20
    """L-BFGS iterations in each."""
    lr: Annotated[float, Field(gt=0)] = 1.0
    restarts: Annotated[int, Field(ge=1)] = 1

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Return the restart with the lowest objective."""
        found = [self._descend(seen, rng, tick, i * self.steps) for i in range(self.restarts)]
        best = min(found, key=lambda one: one.objective)
        calls = sum(one.gradient_calls for one in found)
        return Reconstruction(best.images, best.objective, best.labels, calls)

    def _descend(
        self, seen: Observation, rng: Generator, tick: Tick, before: int
    ) -> Reconstruction:
        vit, shared = seen.model.vit, from_pictures(seen)
        device = vit.mean.device
        pixels = torch.randn(seen.shape, generator=rng).to(device).requires_grad_()
        scores = torch.randn(seen.shape[0], vit.classes, generator=rng).to(device).requires_grad_()
        optimizer = torch.optim.LBFGS([pixels, scores], lr=self.lr, max_iter=self.inner)
        lowest, answer, calls = float("inf"), (pixels.detach(), scores.detach()), 0

        def closure() -> Tensor:
            nonlocal lowest, answer, calls
            images = pixels * vit.std + vit.mean
            objective = squared(seen.model.gradient(images, scores.softmax(1)), shared)
            slopes = torch.autograd.grad(objective, [pixels, scores])
            pixels.grad, scores.grad = (slope.contiguous() for slope in slopes)
            calls += 1
            if (value := objective.item()) < lowest:
                lowest, answer = value, (pixels.detach().clone(), scores.detach().clone())
            return objective.detach()

        for step in range(self.steps):
            loss = optimizer.step(closure)
            tick(before + step + 1, self.steps * self.restarts, lowest)
            if not torch.isfinite(loss):  # without a line search L-BFGS can leave for infinity
                break
        images = (answer[0] * vit.std + vit.mean).clamp(0, 1)
        return Reconstruction(images, lowest, answer[1].argmax(1), calls)
