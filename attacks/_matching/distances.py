"""How far two gradients are apart: distances from papers, and the token-wise one that works."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from privbench.attacks._matching.recipe import Comparison, Facts, Gradient, Scalar
from privbench.observation import Observation
from privbench.vit import ViT

TAG = 0.1
"""Weight of absolute differences; TAG leaves it to the user, `breaching` takes this."""
CORNER = 1e-3
"""Below this an absolute difference counts as its square does, so that L-BFGS sees no corner."""


def squared(found: Gradient, shared: Gradient) -> Scalar:
    """Sum of squared differences over all shared tensors (DLG, eq. 4)."""
    return torch.stack([(found[n] - t).square().sum() for n, t in shared.items()]).sum()


def cosine(found: Gradient, shared: Gradient) -> Scalar:
    """One minus the cosine of the angle between two whole gradients (Geiping et al., eq. 4)."""
    return _Cosine.apply(*(found[name] for name in shared), *shared.values())[0]


class _Cosine(torch.autograd.Function):
    """The same with a slope in closed form, which reads the tensors half as often."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From the found and then the shared tensors; also return their weights in the slope."""
        found, shared = tensors[: len(tensors) // 2], tensors[len(tensors) // 2 :]
        dot = torch.stack([(f * t).sum() for f, t in zip(found, shared, strict=True)]).sum()
        own, theirs = (
            torch.stack([torch.linalg.vector_norm(one) for one in half]).square().sum()
            for half in (found, shared)
        )
        tiny = torch.finfo(dot.dtype).tiny
        norms = (own * theirs).sqrt().clamp(min=tiny)
        return 1 - dot / norms, dot / norms / own.clamp(min=tiny), -1 / norms

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs, *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        """Only the value is differentiated, and only by the found tensors."""
        *tensors, own, other = ctx.saved_tensors
        found, shared = tensors[: len(tensors) // 2], tensors[len(tensors) // 2 :]
        own, other = slopes[0] * own, slopes[0] * other
        parts = (torch.addcmul(own * f, other, t) for f, t in zip(found, shared, strict=True))
        return (*parts, *[None] * len(shared))


def relative(found: Gradient, shared: Gradient) -> Scalar:
    """Mean over tensors of the squared distance in units of the tensor's own squared norm."""
    terms = [
        (found[n] - t).square().sum() / t.square().sum().clamp(min=torch.finfo(t.dtype).tiny)
        for n, t in shared.items()
    ]
    return torch.stack(terms).mean()


class TokenRows:
    """Rows of a position gradient, each compared in its own units.

    At and near initialization all rows are almost one vector, and what tells the patches apart
    is the small rest. Each row is split along the rows' main direction and across it, and both
    parts are divided by their own size. Rows without gradient (masked, pruned) say nothing.
    """

    def __init__(self, rows: Float[Tensor, "n d"]) -> None:
        self.facts = token_facts(rows)

    def distance(self, found: Float[Tensor, "n d"]) -> Scalar:
        """Mean over rows; zero where all rows are equal."""
        return squares(*token_gaps(found, self.facts), self.facts)


def token_facts(rows: Float[Tensor, "n d"]) -> dict[str, Tensor]:
    """Collect what `token_gaps` has to know of the shared rows."""
    size = rows.norm(dim=1)
    alive = size > 1e-6 * size.max()
    rows = rows * alive[:, None]
    main = torch.linalg.svd(rows, full_matrices=False).Vh[0]
    along = rows @ main
    across = rows - along[:, None] * main
    floor = 1e-12 * rows.square().sum(1).max()
    return {
        "main": main,
        "along": along,
        "across": across,
        "along unit": along.square().clamp(min=floor).sqrt(),
        "across unit": across.square().sum(1).clamp(min=floor).sqrt(),
        "alive": alive.to(rows) / alive.sum(),
    }


def token_gaps(
    found: Float[Tensor, "n d"], facts: Facts
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n d"]]:
    """Differences along and across the main direction, in each row's own units."""
    along = found @ facts["main"]
    across = found - along[:, None] * facts["main"]
    return (
        (along - facts["along"]) / facts["along unit"],
        (across - facts["across"]) / facts["across unit"][:, None],
    )


def mean_of_rows(values: Float[Tensor, " n"], facts: Facts) -> Scalar:
    """Mean over the rows that have a gradient."""
    return (values * facts["alive"]).sum()


def squares(along: Float[Tensor, " n"], across: Float[Tensor, "n d"], facts: Facts) -> Scalar:
    """Mean over the rows of both squared gaps."""
    return mean_of_rows(along.square() + across.square().sum(1), facts)


def with_absolute(along: Float[Tensor, " n"], across: Float[Tensor, "n d"], facts: Facts) -> Scalar:
    """TAG's squared plus a tenth of the absolute gaps, rounded off near zero."""
    width = across.shape[1]
    absolute = _rounded(along) + _rounded(across * width**0.5).sum(1) / width
    return squares(along, across, facts) + TAG * mean_of_rows(absolute, facts)


def _rounded(gaps: Tensor) -> Tensor:
    return (gaps.square() + CORNER**2).sqrt() - CORNER


def by_direction(along: Float[Tensor, " n"], across: Float[Tensor, "n d"], facts: Facts) -> Scalar:
    """Squared gaps along, and one minus the cosine of what is across (APRIL, section 4.2)."""
    shared = facts["across"] / facts["across unit"][:, None]
    angle = torch.cosine_similarity(across + shared, shared, dim=1)
    return mean_of_rows(along.square() + 1 - angle, facts)


def tag(found: Gradient, shared: Gradient) -> Scalar:
    """Squared plus absolute differences; the latter weigh less with depth (TAG, eq. 5 and 6)."""
    terms = []
    for depth, (name, tensor) in enumerate(shared.items()):
        gap = found[name] - tensor
        terms.append(gap.square().sum() + TAG * (1 - depth / len(shared)) * gap.abs().sum())
    return torch.stack(terms).sum()


def direction_of_positions(found: Gradient, shared: Gradient) -> Scalar:
    """Squared differences, and one minus the cosine of the position gradients (APRIL, eq. 9)."""
    apart = squared(found, shared)
    if ViT.POSITIONS not in shared:
        return apart
    angle = torch.cosine_similarity(
        found[ViT.POSITIONS].flatten(), shared[ViT.POSITIONS].flatten(), dim=0
    )
    return apart + 1 - angle


def norms(found: Gradient, shared: Gradient) -> Scalar:
    """Sum of the norms of the differences (GradViT, eq. 4)."""
    tiny = torch.finfo(next(iter(shared.values())).dtype).tiny
    return torch.stack(
        [((found[n] - t).square().sum() + tiny).sqrt() for n, t in shared.items()]
    ).sum()


def compare_all(shared: Gradient, distance: Callable[[Gradient, Gradient], Scalar]) -> Comparison:
    """Compare every shared tensor, as papers do."""
    return Comparison(tuple(shared), shared, distance)


def by_token(
    seen: Observation,
    shared: Gradient,
    measure: Callable[[Tensor, Tensor, Facts], Scalar] = squares,
    also: Iterable[str] = (),
) -> Comparison:
    """Compare what lies nearest to the pixels, in units of its own.

    The position gradient row by row, by a measure of `token_gaps`; the patch embedding and what
    else is named as whole tensors. Where the position gradient is withheld or zero, the patch
    embedding or everything.
    """
    prefix = seen.model.vit.prefix
    others = {name: shared[name] for name in (ViT.PROJECTION, *also) if name in shared}
    rows = shared[ViT.POSITIONS][0, prefix:] if ViT.POSITIONS in shared else None
    if rows is None or not rows.any():
        others = others or dict(shared)
        return Comparison(tuple(others), others, relative)
    facts = token_facts(rows)

    def distance(found: Gradient, known: Facts) -> Scalar:
        gaps = token_gaps(found[ViT.POSITIONS][0, prefix:], known)
        tokens = measure(*gaps, known)
        whole = {name: known[name] for name in others}
        return tokens + relative(found, whole) if whole else tokens

    return Comparison((ViT.POSITIONS, *others), facts | others, distance)
