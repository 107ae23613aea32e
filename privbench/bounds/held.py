"""One matrix for all settings that differ by a factor: products with a Jacobian are the cost.

Errors b times as precise, of an update a times as large, give a^2 b times the same matrix. So
noise of every size costs one matrix a picture, and so does that of clipped examples at every norm.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from privbench.bounds.ceiling import Precision, Square
from privbench.jacobian import Jacobian

PROPORTIONAL = 1e-6
"""How far ratios of two precisions may be apart: less than a hundred thousandth of a decibel."""
SAME = 1e-8
"""How far the changes along one direction may be apart: far above what float64 leaves of sums."""


@dataclass(frozen=True)
class Computed:
    """A matrix, and what it is of."""

    probe: Mapping[str, Tensor]
    """How the update changes along one direction of random numbers, which tells any Jacobian."""
    known: Precision
    matrix: Square


class Held:
    """Keeps the last matrix; settings of one picture follow one another."""

    def __init__(self) -> None:
        self._last: Computed | None = None

    def information(
        self, here: Jacobian, known: Precision, tick: Callable[[int], None] = lambda done: None
    ) -> Square:
        """Return J^T S^-1 J, computed only where it is no multiple of the last one."""
        rng = torch.Generator().manual_seed(0)
        along = torch.randn(here.at.shape, generator=rng).to(here.at)
        probe = here.push(along)
        factor = None if self._last is None else _factor(self._last, probe, known)
        if self._last is not None and factor is not None:
            return factor * self._last.matrix
        self._last = None  # the next matrix needs its room
        matrix = here.normal(known, tick)
        self._last = Computed(probe, known, matrix)
        return matrix


def _factor(last: Computed, probe: Mapping[str, Tensor], known: Precision) -> float | None:
    """Return what makes the last matrix this one; None where no number does."""
    if {n: t.shape for n, t in known.items()} != {n: t.shape for n, t in last.known.items()}:
        return None
    weights, before = _flat(known), _flat(last.known)
    shown = before > 0
    if not torch.equal(shown, weights > 0) or not shown.any():
        return None
    ratios = weights[shown] / before[shown]
    if ratios.max() > (1 + PROPORTIONAL) * ratios.min():
        return None
    here, there = (_flat({n: one[n] for n in known}) for one in (probe, last.probe))
    here, there = weights.sqrt() * here, weights.sqrt() * there
    scale = float(here @ there / there.square().sum())
    if not (here - scale * there).norm() <= SAME * here.norm():
        return None
    return scale**2 * float(ratios.mean())


def _flat(tensors: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([tensor.double().flatten() for tensor in tensors.values()])
