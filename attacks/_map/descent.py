"""The way down a posterior: quasi-Newton steps in coordinates that suit it."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from privbench.attacks._map.posterior import Posterior, Square
from privbench.jacobian import Unknowns

MEMORY = 30
"""Pairs of differences that L-BFGS keeps."""
LESS = 1e-6
"""Share of the slopes' own size in the information that stands in for none."""

Step = Callable[[float], None]


@runtime_checkable
class Cost(Protocol):
    """What is to be minimized."""

    def value(self, unknowns: Float[Tensor, " k"]) -> tuple[float, Float[Tensor, " k"], float]:
        """Return the cost, its gradient, float64, and the data's share of it per entry."""
        ...


def descend(
    posterior: Cost, start: Unknowns, coordinates: Square, steps: int, step: Step
) -> tuple[Unknowns, float, int]:
    """Minimize by L-BFGS in v, where the unknowns are start + coordinates @ v.

    Returns the best unknowns, their data's cost per entry, and the evaluations that it took.
    """
    v = start.new_zeros(len(start), dtype=torch.float64).requires_grad_()
    best, least, misfit, calls = start, float("inf"), float("inf"), 0

    def closure() -> Float[Tensor, ""]:
        nonlocal best, least, misfit, calls
        at = start.double() + coordinates @ v.detach()
        cost, slope, share = posterior.value(at)
        v.grad = coordinates.T @ slope
        calls += 1
        if cost < least:
            best, least, misfit = at.float(), cost, share
        step(misfit)
        return v.new_tensor(cost)

    optimizer = torch.optim.LBFGS(
        [v],
        max_iter=steps,
        max_eval=steps,
        history_size=MEMORY,
        tolerance_grad=0,
        line_search_fn="strong_wolfe",
    )
    optimizer.step(closure)
    return best, misfit, calls


def newton_coordinates(
    posterior: Posterior, at: Unknowns, damping: float, tick: Callable[[int], None]
) -> Square:
    """Return coordinates in which the posterior around a point is round, but for the damping.

    By the exact normal matrix of all entries. The prior counts 1 + damping times, which holds
    steps to what pictures look like where the equations are not yet linear.
    """
    whole = posterior.here(at).normal(posterior.known, tick)
    whole += (1 + damping) * posterior.precision()
    size = whole.diagonal().clone()
    size[: posterior.pixels] = 0
    root = torch.linalg.cholesky(whole + LESS * torch.diag(size))
    one = torch.eye(len(whole)).to(whole)
    return torch.linalg.solve_triangular(root.T, one, upper=True)
