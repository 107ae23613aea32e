"""The local Gaussian ceiling: what is left open of a picture once its update is known.

Around the truth an update is linear in the picture, g(x + d) = g(x) + J d; clipping is part of g.
With independent errors of variance S and a Gaussian prior of covariance C, the posterior covariance
is (J^T S^-1 J + C^-1)^-1, and its trace is the least expected squared error.
"""

from collections.abc import Callable, Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from privbench.client_step import ClientStep, Gradient
from privbench.defense import Defense
from privbench.jacobian import Jacobian
from privbench.jacobian import precision as weighed
from privbench.observation import Observation
from privbench.seeds import generator
from privbench.threat import Images, Randomness

ARITHMETIC = 6e-8
"""Error of float32, in which clients compute, as a share of a tensor's root mean square: half an
ulp. No defense leaves less."""
ROUNDING = 1e-14
"""Error of a matrix of products in float64, as a share of its largest eigenvalue."""
NEAR = 1e-3
"""How far off an eigenvalue may be, where the prior has one: 0.004 dB of the ceiling."""

Precision = dict[str, Tensor]
"""One over the variance of each entry's error, by name; zero where an entry says nothing."""
Square = Float[Tensor, "k k"]
Again = Callable[[Float[Tensor, "n k"]], Float[Tensor, "n k"]]
"""Multiplies directions, one a row."""


def precision(
    defense: Defense, gradient: Mapping[str, Tensor], tensors: Mapping[str, Tensor], unknowns: int
) -> Precision:
    """Return how well each entry of a shared update is known, where the true gradient is this."""
    kept = defense.measured(tensors)
    entries = sum(int(kept[n].sum()) if n in kept else t.numel() for n, t in tensors.items())
    told = [defense.deviations_at(gradient, tensors, unknowns / max(entries, 1))]
    return weighed(tensors, told, kept, ARITHMETIC)


def typical(
    defense: Defense, gradient: Mapping[str, Tensor], shared: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return shared tensors at the size that they have on average over what the defense draws.

    Where errors are a share of a tensor's root mean square, their variance adds to the mean square
    of the gradient. One draw of a small tensor comes out larger or smaller, and its errors do not.
    """
    squares = {n: t.double().square().mean() for n, t in shared.items()}
    twice = {n: 2 * torch.ones_like(t) * squares[n].sqrt().to(t) for n, t in shared.items()}
    told, doubled = defense.deviations(shared), defense.deviations(twice)
    chosen = {name for name, kept in defense.measured(shared).items() if not kept.all()}
    found = dict(shared)
    for name, error in told.items():
        if name in chosen or not torch.allclose(2 * error, doubled[name], rtol=1e-4, atol=0):
            continue
        rest = squares[name] - error.square().mean()
        if rest > 0:
            scale = (gradient[name].double().square().mean() / rest).sqrt()
            found[name] = scale * shared[name]
    return found


def jacobian(
    seen: Observation, images: Images, labels: Tensor, randomness: Randomness | None
) -> Jacobian:
    """Return how the update changes with the pixels, at the truth; numbers in memory order.

    What a defense makes of examples' gradients is in it, such as the length that clipping takes.
    In float64: of a picture that is known well, float32 would blur what is known of the rest.
    """
    model = seen.model
    defense, step = model.defense, ClientStep(model.vit, model.defense).apart().double()
    shared = tuple(seen.update.tensors)
    named = model.vit.trained() if defense.per_example else shared  # what is withheld is clipped
    weights = {name: step.vit.get_parameter(name) for name in named}

    def loss(chosen: dict[str, Tensor], pixels: Tensor) -> Tensor:
        named = {f"vit.{name}": tensor for name, tensor in chosen.items()}
        given = (pixels.view(images.shape), labels, randomness)
        return functional_call(step, named, given)[0]

    def combined(gradient: Gradient) -> Gradient:
        each = {name: tensor[None] for name, tensor in gradient.items()}
        found = defense.combine(each, generator("combine"))
        return {name: found[name] for name in shared}

    then = combined if defense.per_example else None
    return Jacobian(loss, weights, images.flatten().double(), then)


def posterior(information: Square, prior: Square, again: Again) -> tuple[Float[Tensor, "m k"], int]:
    """Return R with R^T R the covariance of the best estimate; the prior as its covariance.

    And how many directions are not resolved: they count as known, so that the error may be too
    small, never too large. `again` multiplies directions with the information. Where one of them is
    known so well that rounding blurs what is known of others, those are multiplied by themselves:
    along them nothing is large any more.
    """
    half = torch.linalg.cholesky(prior)
    inner = half.T @ information @ half  # C = L L^T gives L (I + L^T H L)^-1 L^T
    if ROUNDING * float(inner.trace()) <= NEAR:
        return _left(half, inner), 0
    values, basis = (one.flip(-1) for one in torch.linalg.eigh(inner))
    top = float(values[0])
    first = _clear(values, (half @ basis).square().sum(0), ROUNDING * top)
    if ROUNDING * top**0.5 > NEAR:  # products are off by the root of it, not by all of it
        known = half @ basis[:, :first] * (1 + values[:first]).rsqrt()
        return known.T, len(prior) - first
    columns = half.T @ again((half @ basis[:, first:]).T).T
    inner = torch.diag(values)
    inner[:, first:] = basis.T @ columns
    inner[first:, :first] = inner[:first, first:].T
    inner[first:, first:] = (inner[first:, first:] + inner[first:, first:].T) / 2
    return _left(half @ basis, inner), 0


def _clear(values: Float[Tensor, " k"], weights: Float[Tensor, " k"], blur: float) -> int:
    """Return how many of the largest eigenvalues may be off by the blur, and nothing else is.

    What that makes of the error is at most `NEAR` of the least that it can be.
    """
    least = (weights / (1 + values.clamp(min=0) + blur)).sum()
    off = (weights * blur / (1 + values.clamp(min=0)).square()).cumsum(0)
    return int(((off <= NEAR * least) & (values >= 10 * blur)).sum())


def _left(half: Square, inner: Square) -> Square:
    """Return R with R^T R = L (I + M)^-1 L^T, also where M spans many decades."""
    whole = inner + torch.eye(len(inner)).to(inner)
    scale = whole.diagonal().rsqrt()
    root = torch.linalg.cholesky(scale[:, None] * whole * scale)
    return torch.linalg.solve_triangular(root, (half * scale).T, upper=False)


def unheard(defense: Defense, parts: Iterable[tuple[str, Defense]]) -> list[str]:
    """Return names of parts that change an update by errors of which nothing is known."""
    changed, told = ("combine", "protect"), ("measured", "deviations")
    return [
        name
        for name, part in parts
        if any(map(part.changes, changed)) and not any(map(part.changes, told))
    ]
