"""How far two gradients are apart: distances from papers, and the token-wise one that works.

All of them ask how near a found gradient comes to the shared one at some positive scale, or each
of its tensors where the defense scales these apart; and only of entries that were measured.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from privbench.attacks._matching.recipe import Comparison, Facts, Gradient, Scalar
from privbench.attacks._matching.rows import (
    TAG,
    in_row_units,
    squares,
    token_facts,
    weighed,
)
from privbench.attacks._matching.scale import fit, scaled, sizes
from privbench.attacks._update.reading import kept_alone, untold
from privbench.observation import Observation
from privbench.vit import ViT


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


def relative(found: Gradient, shared: Gradient, *, by_tensor: bool = False) -> Scalar:
    """Mean over tensors of the squared distance in units of the tensor's own squared norm.

    At the scale of the found gradient, or of each of its tensors, that brings it nearest.
    """
    units = sizes(shared)
    own, theirs = ({n: half[n] / units[n] for n in units} for half in (found, shared))
    return squared(scaled(own, theirs, by_tensor=by_tensor), theirs) / len(units)


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


def compare_all(
    seen: Observation,
    shared: Gradient,
    distance: Callable[[Gradient, Gradient], Scalar],
    *,
    angular: bool = False,
) -> Comparison:
    """Compare every shared tensor, as papers do, but at the best scale; an angle needs none.

    The shared gradient gets norm one, or each tensor does: papers take it in the loss's units.
    """
    kept = seen.model.defense.measured(seen.update.tensors)
    shared = kept_alone(shared, kept)  # noise may have been added to what a defense made
    by_tensor, norms = seen.model.defense.by_tensor, sizes(shared)
    whole = torch.linalg.vector_norm(torch.stack(list(norms.values())))
    facts = {name: t / (norms[name] if by_tensor else whole) for name, t in shared.items()}

    def at_best(found: Gradient, known: Facts) -> Scalar:
        known = {name: known[name] for name in shared}
        if by_tensor or not angular:
            found = scaled(found, known, by_tensor=by_tensor)
        return distance(found, known)

    return _of_measured(seen, Comparison(tuple(shared), facts, at_best), kept)


def by_token(
    seen: Observation,
    shared: Gradient,
    measure: Callable[[Tensor, Tensor, Facts], Scalar] = squares,
    also: Iterable[str] = (),
    beside: Iterable[str] = (),
) -> Comparison:
    """Compare what lies nearest to the pixels, in units of its own and at the best scale.

    The position gradient row by row, by a measure of gaps in `in_row_units`; the patch embedding
    and what else is named as whole tensors, by their mean, and by its own what counts beside them.
    Where the position gradient is withheld or zero, the patch embedding or everything.
    """
    kept = seen.model.defense.measured(seen.update.tensors)
    shared = kept_alone(shared, kept)
    prefix, by_tensor = seen.model.vit.prefix, seen.model.defense.by_tensor
    near = [name for name in dict.fromkeys((ViT.PROJECTION, *also)) if name in shared]
    rows = shared[ViT.POSITIONS][0, prefix:] if ViT.POSITIONS in shared else None
    if rows is None or not rows.any():
        near, rows = near or list(shared), None
    far = [name for name in beside if name not in near]
    share = {name: len(group) ** -0.5 for group in (near, far) for name in group}
    units = sizes({name: shared[name] for name in share})
    facts = {name: share[name] * shared[name] / unit for name, unit in units.items()}
    facts |= {f"{name} unit": unit / share[name] for name, unit in units.items()}
    if rows is not None:
        of_rows = kept.get(ViT.POSITIONS)
        facts |= token_facts(rows, None if of_rows is None else of_rows[0, prefix:])

    def distance(found: Gradient, known: Facts) -> Scalar:
        own = {name: found[name] / known[f"{name} unit"] for name in share}
        theirs = {name: known[name] for name in share}
        if rows is None:
            return squared(scaled(own, theirs, by_tensor=by_tensor), theirs)
        tokens = in_row_units(found[ViT.POSITIONS][0, prefix:], known)
        pairs = weighed(tokens, known)
        if by_tensor:
            own, factor = scaled(own, theirs, by_tensor=True), fit(pairs)
        else:
            factor = fit([*pairs, *((own[name], theirs[name]) for name in share)])
            own = {name: factor * tensor for name, tensor in own.items()}
        along, across = (factor * part for part in tokens)
        apart = measure(along - known["along"], across - known["across"], known)
        return apart + squared(own, theirs) if share else apart

    names = tuple(share) if rows is None else (ViT.POSITIONS, *share)
    return _of_measured(seen, Comparison(names, facts, distance), kept)


def _of_measured(seen: Observation, asked: Comparison, kept: Gradient) -> Comparison:
    """Leave out of found gradients what was left out of the shared one.

    And add what is still in the shared one of a penalty.
    """
    added = untold(seen)
    facts = {f"{name} kept": kept[name] for name in asked.names if name in kept}
    facts |= {f"{name} added": added[name] for name in asked.names if name in added}
    if not facts:
        return asked

    def distance(found: Gradient, known: Facts) -> Scalar:
        found = {
            n: t + known[f"{n} added"] if f"{n} added" in facts else t for n, t in found.items()
        }
        left = {n: t * known[f"{n} kept"] if f"{n} kept" in facts else t for n, t in found.items()}
        return asked.distance(left, known)

    return replace(asked, facts={**asked.facts, **facts}, distance=distance)
