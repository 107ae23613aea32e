"""Levenberg-Marquardt for many small systems at once."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

Rows = Int[Tensor, " r"]
Cost = Callable[[Float[Tensor, "r q"], Rows], Float[Tensor, " r"]]
Model = Callable[[Float[Tensor, "r q"], Rows], tuple[Float[Tensor, "r q"], Float[Tensor, "r q q"]]]

DAMPING = 1e-2
PATIENCE = 6
"""Steps after which a system that has not lost a third of its cost is given up."""


@dataclass(frozen=True)
class Solved:
    """Where each system ended."""

    at: Float[Tensor, "n q"]
    cost: Float[Tensor, " n"]
    evaluations: int
    """Systems linearized, summed over the steps."""


def solve(
    cost: Cost, model: Model, start: Float[Tensor, "n q"], steps: int, enough: float
) -> Solved:
    """Lower the cost of each row on its own; rows that are done or stuck drop out.

    cost and model take points and the numbers of their rows; model returns the half gradient and
    the Gauss-Newton matrix.
    """
    at, now = start.clone(), cost(start, torch.arange(len(start), device=start.device))
    n, q = start.shape
    damping = torch.full_like(now, DAMPING)
    slope, bend = torch.empty_like(at), at.new_empty(n, q, q)
    stale = torch.ones(n, dtype=torch.bool, device=at.device)
    history, evaluations = [now.clone()], 0
    live = (now > enough).nonzero().flatten()
    for _ in range(steps):
        if not len(live):
            break
        fresh = live[stale[live]]
        if len(fresh):
            slope[fresh], bend[fresh] = model(at[fresh], fresh)
            stale[fresh] = False
            evaluations += len(fresh)
        diagonal = bend[live].diagonal(dim1=1, dim2=2)
        extra = damping[live, None] * (diagonal + 1e-9 * diagonal.amax(1, keepdim=True))
        trial = at[live] + _step(bend[live] + torch.diag_embed(extra), -slope[live])
        then = cost(trial, live)
        better = then < now[live]
        won = live[better]
        at[won], now[won], stale[won] = trial[better], then[better], True
        damping[live] = torch.where(better, damping[live] / 4, damping[live] * 4).clamp(1e-12, 1e8)
        history.append(now.clone())
        alive = now[live] > enough
        if len(history) > PATIENCE:
            alive &= now[live] < history[-1 - PATIENCE][live] * 2 / 3
        live = live[alive]
    return Solved(at, now, evaluations)


def _step(bend: Float[Tensor, "l q q"], push: Float[Tensor, "l q"]) -> Float[Tensor, "l q"]:
    """Solve by Cholesky in units of the diagonal; no step where that fails.

    Not by LU: torch's batched one breaks down above q of about 150 with more than one thread.
    """
    unit = bend.diagonal(dim1=1, dim2=2).rsqrt()
    factor, failed = torch.linalg.cholesky_ex(unit[:, :, None] * bend * unit[:, None])
    step = unit * torch.cholesky_solve((unit * push)[..., None], factor)[..., 0]
    return step.masked_fill((failed > 0)[:, None], 0).nan_to_num()
