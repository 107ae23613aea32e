"""Gradient matching over the few numbers that linear algebra leaves open."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from privbench.attacks._linear.ambiguity import UNKNOWN, Ambiguity
from privbench.attacks._matching.distances import by_token
from privbench.attacks._update.reading import from_pictures, labels, told
from privbench.observation import Observation
from privbench.patches import join
from privbench.threat import Draw, Images
from privbench.vit import ViT

HISTORY = 100
EVALUATIONS = 1.25
"""Gradient evaluations that an L-BFGS step may take on average."""


class Restricted:
    """How far a picture inside the ambiguity is from the shared gradient, and how to come nearer.

    Token rows of the position gradient are compared each in its own units, where they are shared;
    the tensors beside them, and all others without them, by relative squared distance.
    """

    def __init__(self, seen: Observation, open_: Ambiguity, draw: Draw | None = None) -> None:
        self.seen, self.open = seen, open_
        self.labels, self.calls = labels(seen), 0
        self.draw = told(seen) if draw is None else draw
        shared = from_pictures(seen)
        also = (UNKNOWN,) if ViT.POSITIONS in shared else tuple(shared)
        self.asked = by_token(seen, shared, also=also)

    def picture(self, coefficients: Float[Tensor, "n k"]) -> Images:
        """Pixels at these coordinates; not clamped."""
        vit = self.seen.model.vit
        return (
            join(self.open.patches(coefficients)[None], vit.patch).to(vit.mean) * vit.std + vit.mean
        )

    def distance(self, images: Images, *, differentiable: bool = False) -> Float[Tensor, ""]:
        """Distance of the gradients; differentiable in the images if asked."""
        self.calls += 1
        batch = images.expand(len(self.labels), -1, -1, -1)
        gradient = self.seen.model.gradient(
            batch, self.labels, self.draw, of=self.asked.names, differentiable=differentiable
        )
        return self.asked.distance(gradient, self.asked.facts)

    def at(self, coefficients: Float[Tensor, "n k"]) -> float:
        """Distance of the gradients at these coordinates; infinite where it is undefined."""
        value = float(self.distance(self.picture(coefficients)).detach())
        return value if value == value else float("inf")

    def descend(
        self,
        start: Float[Tensor, "n k"],
        steps: int,
        tick: Callable[[float], None],
        free: Bool[Tensor, " n"] | None = None,
    ) -> tuple[Float[Tensor, "n k"], float]:
        """Coordinates of the lowest distance on the way of L-BFGS, and that distance.

        Rows that are not free keep their start.
        """
        # steps are in units of the start's contrast; a flat one has none, pixels have 1
        scale = start.std() if start.any() else start.new_ones(())
        rows = torch.ones_like(start[:, 0], dtype=torch.bool) if free is None else free
        theta = (start[rows] / scale).requires_grad_()
        best, lowest = start, float("inf")

        def closure() -> Tensor:
            nonlocal best, lowest
            every = start.index_put((rows,), theta * scale)
            apart = self.distance(self.picture(every), differentiable=True)
            (slope,) = torch.autograd.grad(apart, theta)
            theta.grad = slope.contiguous()
            if (value := apart.item()) < lowest:
                best, lowest = every.detach(), value
            tick(value)
            return apart.detach()

        torch.optim.LBFGS(
            [theta],
            max_iter=steps,
            max_eval=max(2, round(steps * EVALUATIONS)),
            history_size=HISTORY,
            tolerance_grad=1e-14,
            tolerance_change=1e-16,
            line_search_fn="strong_wolfe",
        ).step(closure)
        return best, lowest

    def fill(
        self,
        coefficients: Float[Tensor, "n k"],
        seats: Int[Tensor, " s"],
        candidates: Float[Tensor, "c k"],
        evaluations: int,
    ) -> Float[Tensor, "n k"]:
        """Put the candidates that bring the gradients nearest, first alike, then seat by seat.

        Equal patches are one root, so a root that is found may be wanted again, and often, as
        ground of one color. The seats are gone through at most twice over, as far as the
        evaluations suffice.
        """
        coefficients = coefficients.clone()
        groups = [seats, *seats[:, None], *seats[:, None]]
        for group in groups[: max(1, evaluations // len(candidates))]:
            trials = []
            for one in candidates:
                coefficients[group] = one
                trials.append(self.at(coefficients))
            coefficients[group] = candidates[trials.index(min(trials))]
        return coefficients
