"""Inverting Gradients (Geiping et al., NeurIPS 2020, arXiv:2003.14053), made to work on ViTs.

The published recipe (`gradinv_published`) lowers its objective by orders of magnitude on a vision
transformer without the picture coming nearer: almost all of the position gradient is one direction
that the tokens share, and a cosine over everything hardly sees the rest. Here each token's row
counts in its own units, the smoothness prior fades in stages, and L-BFGS takes the place of signed
Adam. The paper's idea stays: pixels are moved, through the model's own gradient, until that
gradient equals the shared one.
"""

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor

from privbench.attack import Attack, Tick
from privbench.attacks._matching import Gradient, TokenRows, out_of_box, relative, roughness
from privbench.attacks._reading import from_pictures, labels, mask
from privbench.observation import Observation
from privbench.threat import Reconstruction
from privbench.vit import ViT

STAGES = ((10.0, 3), (3.0, 4), (1.0, 4), (0.3, 4), (0.1, 3), (0.0, 4))
"""Weight of the smoothness prior, and share of the steps in 22nds."""
BOX = 3.0
"""Weight of the penalty on pixels outside [0, 1]."""
EVALUATIONS = 1.25
"""Gradient evaluations that an L-BFGS step may take on average."""


class InvertingGradients(Attack):
    """Gradient matching over pixels, token by token, by L-BFGS from a gray picture."""

    paper: ClassVar[str] = "after arXiv:2003.14053"
    steps: Annotated[int, Field(ge=1)] = 440
    """Iterations of L-BFGS; about one gradient evaluation each."""
    restarts: Annotated[int, Field(ge=1)] = 1
    mask: Literal["inferred", "ignored"] = "inferred"
    """Whether the model is run with the mask that the update gives away."""

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Return the restart with the lowest objective."""
        known = labels(seen)
        draw = mask(seen) if self.mask == "inferred" else None
        names, distance = _objective(seen)
        total = self.restarts * sum(_budget(self.steps, share)[1] for _, share in STAGES)
        lowest, answer, calls = float("inf"), seen.model.vit.mean.expand(seen.shape), 0
        for _ in range(self.restarts):
            start = 0.01 * torch.randn(seen.shape, generator=rng)
            pixels = (seen.model.vit.mean + start.to(seen.model.vit.mean)).requires_grad_()
            for weight, share in STAGES:
                iterations, evaluations = _budget(self.steps, share)

                def closure(weight: float = weight, pixels: Tensor = pixels) -> Tensor:
                    nonlocal lowest, answer, calls
                    gradient = seen.model.gradient(pixels, known, draw, of=names)
                    apart = distance(gradient) + BOX * out_of_box(pixels)
                    objective = apart + weight * roughness(pixels)
                    (slope,) = torch.autograd.grad(objective, pixels)
                    pixels.grad = slope.contiguous()
                    calls += 1
                    if (value := apart.item()) < lowest:
                        lowest, answer = value, pixels.detach().clone()
                    tick(min(calls, total), total, value)
                    return objective.detach()

                torch.optim.LBFGS(
                    [pixels],
                    max_iter=iterations,
                    max_eval=evaluations,
                    history_size=100,
                    tolerance_grad=1e-14,
                    tolerance_change=1e-16,
                    line_search_fn="strong_wolfe",
                ).step(closure)
        return Reconstruction(answer.clamp(0, 1).clone(), lowest, known, calls)


def _budget(steps: int, share: int) -> tuple[int, int]:
    """Return iterations and evaluations of one stage."""
    iterations = max(1, round(steps * share / sum(part for _, part in STAGES)))
    return iterations, max(2, round(iterations * EVALUATIONS))


def _objective(seen: Observation) -> tuple[list[str], Callable[[Gradient], Float[Tensor, ""]]]:
    """Name the tensors to match, nearest to the pixels first, and say how far apart they are."""
    shared, prefix = from_pictures(seen), seen.model.vit.prefix
    near = {name: shared[name] for name in (ViT.PROJECTION,) if name in shared}
    if ViT.POSITIONS not in shared:
        chosen = near or dict(shared)
        return list(chosen), lambda found: relative(found, chosen)
    rows = TokenRows(shared[ViT.POSITIONS][0, prefix:])

    def distance(found: Gradient) -> Float[Tensor, ""]:
        tokens = rows.distance(found[ViT.POSITIONS][0, prefix:])
        return tokens + relative(found, near) if near else tokens

    return [ViT.POSITIONS, *near], distance
