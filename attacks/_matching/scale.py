"""Scale of a found gradient: an update's size is no evidence, so it is fitted."""

from collections.abc import Iterable

import torch
from torch import Tensor

from privbench.attacks._matching.recipe import Gradient, Scalar


def fit(pairs: Iterable[tuple[Tensor, Tensor]]) -> Scalar:
    """Factor by which found tensors together get the size of shared ones.

    Then a squared distance is a matter of the angle alone. Near the end this factor is that of
    least squares, which is of no use where both are opposed: it is zero there, and so is the slope.
    """
    squares = [(f.square().sum(), t.square().sum()) for f, t in pairs]
    own, theirs = (torch.stack(column).sum() for column in zip(*squares, strict=True))
    some = torch.where(theirs > 0, theirs, 1.0)  # a root has no slope at zero
    factor = (some / own.clamp(min=torch.finfo(own.dtype).tiny)).sqrt()
    return torch.where(theirs > 0, factor, 0.0)


def scaled(found: Gradient, shared: Gradient, *, by_tensor: bool) -> dict[str, Tensor]:
    """Found tensors, at the factor that brings them nearest to the shared ones, or each at its."""
    pairs = {name: (found[name], tensor) for name, tensor in shared.items()}
    if by_tensor:
        return {name: fit([pair]) * pair[0] for name, pair in pairs.items()}
    factor = fit(pairs.values())
    return {name: factor * own for name, (own, _) in pairs.items()}


def sizes(shared: Gradient) -> dict[str, Tensor]:
    """Norm of each tensor; a zero one counts as large as the largest."""
    norms = {n: torch.linalg.vector_norm(t.double()).to(t) for n, t in shared.items()}
    most = torch.stack(list(norms.values())).max()
    most = torch.where(most > 0, most, 1.0)
    return {name: torch.where(norm > 0, norm, most) for name, norm in norms.items()}
