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
RESOLVED = 1e-7
"""Share of the largest eigenvalue below which products in float32 show none."""

Precision = dict[str, Tensor]
"""One over the variance of each entry's error, by name; zero where an entry says nothing."""
Square = Float[Tensor, "k k"]


def precision(defense: Defense, tensors: Mapping[str, Tensor]) -> Precision:
    """Return how well each entry of a shared update is known, as anybody can tell who sees it."""
    told = [defense.deviations(tensors)]
    return weighed(tensors, told, defense.measured(tensors), ARITHMETIC)


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
    """
    model = seen.model
    defense, step = model.defense, ClientStep(model.vit, model.defense).apart()
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
    return Jacobian(loss, weights, images.flatten(), then)


def information(
    here: Jacobian, known: Precision, tick: Callable[[int], None] = lambda done: None
) -> Square:
    """Return J^T S^-1 J; errors enter in units of the smallest, which keeps float32 in range."""
    unit = max(float(one.max()) for one in known.values()) or 1.0
    return unit * here.normal({n: (t / unit).to(here.at) for n, t in known.items()}, tick)


def expected_error(information: Square, prior: Square) -> tuple[float, int]:
    """Mean squared error per number of the best estimate; the prior as its covariance.

    And how many directions float32 does not tell from none, which then count as known that well:
    a ceiling may be too high, never too low.
    """
    half = torch.linalg.cholesky(prior)
    inner = half.T @ information @ half  # C = L L^T gives L (I + L^T H L)^-1 L^T
    one, unresolved = torch.eye(len(inner)).to(inner), 0
    root, failed = torch.linalg.cholesky_ex(inner + one)
    if failed:
        values, vectors = torch.linalg.eigh(inner)
        least = RESOLVED * float(values[-1])
        unresolved = int((values < least).sum())
        left = (half @ vectors) / (1 + values.clamp(min=least)).sqrt()
    else:
        left = torch.linalg.solve_triangular(root, half.T, upper=False)
    return float(left.square().sum()) / len(prior), unresolved


def unheard(defense: Defense, parts: Iterable[tuple[str, Defense]]) -> list[str]:
    """Return names of parts that change an update by errors of which nothing is known."""
    changed, told = ("combine", "protect"), ("measured", "deviations")
    return [
        name
        for name, part in parts
        if any(map(part.changes, changed)) and not any(map(part.changes, told))
    ]
