"""What any server reads off an update: labels, the mask, the part that pictures decide."""

import math
from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from privbench.attacks._update.factors import factors
from privbench.attacks._update.labels import fitting, greedy, opposed
from privbench.attacks._update.wire import as_gradient
from privbench.errors import NotGranted
from privbench.observation import Observation
from privbench.threat import Draw, Randomness
from privbench.vit import ViT

CHANCE, LONGEST = 4.5, 1.4
"""Standard deviations of noise, along a direction, and over a whole row."""


def measured(seen: Observation) -> dict[str, Tensor]:
    """Shared tensors, with zeros in the place of entries that the defense provably made.

    As a gradient, where a first step of AdamW's was shared.
    """
    return kept_alone(as_gradient(seen), seen.model.defense.measured(seen.update.tensors))


def kept_alone(tensors: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with zeros in the place of what was not kept; those without a mask stay whole."""
    return {n: torch.where(kept[n], t, 0) if n in kept else t for n, t in tensors.items()}


def labels(seen: Observation) -> Int[Tensor, " b"]:
    """Labels as granted, or else inferred from the head's gradient.

    One image: the only class whose bias gradient is negative (exact; iDLG, arXiv:2001.02610,
    needs features of one sign, this does not). More: greedy counts on the bias gradient. A head
    without bias, or without that entry of it, one image: the row that opposes all others. A label
    that the defense smooths, one image: what fits the bias gradient.
    """
    if seen.labels is not None:
        return seen.labels
    shared = measured(seen)
    trained = _trained_labels(seen)
    if ViT.HEAD_BIAS in shared and trained is not None:
        rows, bias, heads = shared.get(ViT.HEAD), shared[ViT.HEAD_BIAS], seen.model.vit.heads
        if seen.shape[0] == 1 and rows is not None and len(heads) == 1:
            return fitting(rows, bias, heads[0].weight, heads[0].bias, trained)
    alone = ViT.HEAD in shared and seen.shape[0] == 1
    hidden = alone and ViT.HEAD_BIAS in shared and bool((shared[ViT.HEAD_BIAS] >= 0).all())
    if ViT.HEAD_BIAS in shared and not hidden:
        return greedy(shared[ViT.HEAD_BIAS], seen.shape[0])
    if alone:
        return opposed(shared[ViT.HEAD])
    raise NotGranted(
        "The labels are neither granted nor readable from this update. "
        "Add `--set threat.knows=labels` or share the head's gradient."
    )


def _trained_labels(seen: Observation) -> Float[Tensor, "c c"] | None:
    """Return what each label is once the defense prepared it, if it does so without a draw.

    None where labels stay what they are.
    """
    vit = seen.model.vit
    every = torch.eye(vit.classes, device=vit.mean.device)
    blank = vit.mean.expand(len(every), -1, vit.side, vit.side)
    found = seen.model.defense.prepare(vit, blank, every, None)[1]
    return None if torch.equal(found, every) else found


def mask(seen: Observation) -> Draw | None:
    """Mask that the empty rows of the position gradient give away, nothing moved.

    None where the defense reveals no mask or the position gradient is withheld. The order of
    masked patches is in no gradient, so the draw leaves them where they are. Several clients, and
    several batches of one, have a mask each, and their sum shows none.
    """
    table = measured(seen).get(ViT.POSITIONS)
    several = seen.protocol.clients > 1 or seen.protocol.pictures
    if "mask" not in seen.model.defense.disclosed() or table is None or several:
        return None
    rows = table[0, seen.model.vit.prefix :]
    zero = _empty(rows).expand(seen.shape[0], -1)
    order = torch.arange(zero.shape[1], device=zero.device).expand_as(zero)
    return Draw(zero, order)


def told(seen: Observation) -> Randomness | None:
    """Return what the update tells of the defense's draw: the mask, and what the defense knows."""
    shown = mask(seen)
    if seen.protocol.clients > 1 or seen.protocol.steps > 1:
        return shown
    defense = seen.model.defense
    return defense.told(seen.model.vit, measured(seen), seen.shape[0], shown)


def placeless(seen: Observation, draw: Draw | None) -> Bool[Tensor, " n"]:
    """Patches of the first picture whose position embedding another patch has as well.

    They enter the model as a set: no gradient knows their order.
    """
    vit = seen.model.vit
    rows = seen.model.defense.positions(vit, draw)[0, vit.prefix :].detach()
    return (rows[:, None] == rows).all(2).sum(1) > 1


def unknown(seen: Observation) -> Float[Tensor, "1 d"] | None:
    """Position embedding of masked patches, where there is a mask that the update does not show."""
    vit, defense = seen.model.vit, seen.model.defense
    if "mask" not in defense.disclosed() or ViT.POSITIONS in seen.update.tensors:
        return None
    every = torch.ones(seen.shape[0], vit.grid**2, dtype=torch.bool, device=vit.mean.device)
    order = torch.arange(every.shape[1], device=every.device).expand(every.shape)
    return defense.positions(vit, Draw(every, order))[:1, vit.prefix].detach()


def _empty(rows: Float[Tensor, "n d"]) -> Bool[Tensor, " n"]:
    """Rows that are zero, or nothing but the noise that somebody added to all of them.

    A LayerNorm on every path makes the true rows sum to zero over the width, so the sums tell the
    noise. It leaves a row no longer than itself, and next to nothing along the direction that all
    rows with a gradient share.
    """
    zero = (rows == 0).all(dim=1)
    if zero.any():
        return zero
    rows = rows.double()
    noise = rows.sum(1).square().mean().div(rows.shape[1]).sqrt()
    along = rows @ torch.linalg.svd(rows, full_matrices=False).Vh[0]
    return (along.abs() < CHANCE * noise) & (rows.square().mean(1).sqrt() < LONGEST * noise)


def from_pictures(seen: Observation) -> dict[str, Tensor]:
    """Shared tensors without what the defense's penalty adds, in units of their own.

    Tensors outside the backbone that the penalty reaches are its own and say nothing of pictures.
    They do say by what factor the update was scaled, as by clipping: that of least squares.
    Entries that the defense made are zero.
    """
    defense, shared = seen.model.defense, measured(seen)
    # what many steps of AdamW make of a penalty is no sum of it and the rest
    added = {} if seen.protocol.simulated else seen.model.penalty_gradient(mask(seen))
    kept = defense.measured(shared)
    alike = factors(seen.model.vit, shared, added) if defense.by_tensor else {}
    for name, factor in alike.items():
        shared[name] = (shared[name].double() * factor).to(shared[name])
    own = [n for n, part in added.items() if not n.startswith(ViT.BACKBONE) and part.any()]
    told = {name: shared.pop(name) for name in own if name in shared}
    scale = _factor([(tensor, added[name], kept.get(name)) for name, tensor in told.items()])
    for name in (name for name in added if name in shared and added[name].any()):
        part, whole = added[name], kept.get(name)
        factor = None if defense.by_tensor else scale
        if factor is None and name == ViT.POSITIONS and whole is None:
            # A LayerNorm on every path makes rows of the pictures' part sum to zero.
            factor = _factor([(shared[name].double().sum(2), part.double().sum(2), None)])
        if factor is None:  # by tensor it may be anything: what it adds cannot be told apart
            factor = 0.0 if defense.by_tensor else 1.0
        part = factor * (part.double() if whole is None else part.double() * whole)
        shared[name] = (shared[name].double() - part).to(shared[name])
    if not alike:
        return in_units(shared, by_tensor=defense.by_tensor)
    rest = {name: tensor for name, tensor in shared.items() if name not in alike}
    shared |= in_units({name: tensor for name, tensor in shared.items() if name in alike})
    return shared | in_units(rest, by_tensor=True)


def in_its_units(
    seen: Observation, shared: Mapping[str, Tensor], wrong: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return errors in the units of tensors that were scaled after they were read."""
    whole = measured(seen)
    sizes = {n: float(whole[n].double().norm()) for n in wrong if n in shared}
    return {n: wrong[n] * (float(shared[n].double().norm()) / s) for n, s in sizes.items() if s}


def untold(seen: Observation) -> dict[str, Tensor]:
    """Return what a penalty adds that `from_pictures` leaves in, by name, in the loss's units.

    Where tensors were scaled each by itself, and entries made, nothing tells its factor: a found
    gradient has to have it added.
    """
    defense, shared = seen.model.defense, seen.update.tensors
    if not defense.by_tensor or seen.protocol.steps > 1:
        return {}
    kept = defense.measured(shared)
    left = {
        name: part
        for name, part in seen.model.penalty_gradient(mask(seen)).items()
        if name in shared and name.startswith(ViT.BACKBONE) and part.any()
        if name != ViT.POSITIONS or name in kept
    }
    return kept_alone(left, kept)


def comparable(seen: Observation) -> frozenset[str] | None:
    """Names of tensors that `from_pictures` gives at one scale; None for all of them."""
    if not seen.model.defense.by_tensor:
        return None
    added = seen.model.penalty_gradient(mask(seen))
    return frozenset(factors(seen.model.vit, measured(seen), added))


def in_units(tensors: Mapping[str, Tensor], *, by_tensor: bool = False) -> dict[str, Tensor]:
    """Bring the norm of an update, or of each of its tensors, into [1, 2) by a power of two.

    Its size is no evidence, and may be out of float32's reach when squared. No bit of an entry
    changes, so that rounding can still be seen. Zero and what is not finite stay.
    """
    sizes = {name: float(torch.linalg.vector_norm(t.double())) for name, t in tensors.items()}
    finite = [size for size in sizes.values() if math.isfinite(size)]
    whole = math.hypot(*finite)

    def one(name: str, tensor: Tensor) -> Tensor:
        size = sizes[name] if by_tensor else whole
        if not size or not math.isfinite(size):
            return tensor
        return (tensor.double() * math.ldexp(1.0, 1 - math.frexp(size)[1])).to(tensor)

    return {name: one(name, tensor) for name, tensor in tensors.items()}


def _factor(pairs: Iterable[tuple[Tensor, Tensor, Tensor | None]]) -> float | None:
    """Factor of the second tensors in the first by least squares, over kept entries, or None."""
    dot, size = 0.0, 0.0
    for shared, added, kept in pairs:
        part = added.double() if kept is None else added.double() * kept
        dot, size = dot + float((shared.double() * part).sum()), size + float(part.square().sum())
    return dot / size if size else None
