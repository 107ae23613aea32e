"""What any server reads off an update: labels, the mask, the part that pictures decide."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from privbench.attacks._update.labels import greedy, opposed
from privbench.errors import NotGranted
from privbench.observation import Observation
from privbench.threat import Draw
from privbench.vit import ViT

CHANCE, LONGEST = 4.5, 1.4
"""Standard deviations of noise, along a direction, and over a whole row."""


def labels(seen: Observation) -> Int[Tensor, " b"]:
    """Labels as granted, or else inferred from the head's gradient.

    One image: the only class whose bias gradient is negative (exact; iDLG, arXiv:2001.02610,
    needs features of one sign, this does not). More: greedy counts on the bias gradient. A head
    without bias, one image: the row that opposes all others.
    """
    if seen.labels is not None:
        return seen.labels
    shared = seen.update.tensors
    if ViT.HEAD_BIAS in shared:
        return greedy(shared[ViT.HEAD_BIAS], seen.shape[0])
    if ViT.HEAD in shared and seen.shape[0] == 1:
        return opposed(shared[ViT.HEAD])
    raise NotGranted(
        "The labels are neither granted nor readable from this update. "
        "Add `--set threat.knows=labels` or share the head's gradient."
    )


def mask(seen: Observation) -> Draw | None:
    """Mask that the empty rows of the position gradient give away, nothing moved.

    None where the defense reveals no mask or the position gradient is withheld. The order of
    masked patches is in no gradient, so the draw leaves them where they are.
    """
    table = seen.update.tensors.get(ViT.POSITIONS)
    if "mask" not in seen.model.defense.disclosed() or table is None:
        return None
    rows = table[0, seen.model.vit.prefix :]
    zero = _empty(rows).expand(seen.shape[0], -1)
    order = torch.arange(zero.shape[1], device=zero.device).expand_as(zero)
    return Draw(zero, order)


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
    """Shared tensors without what the defense's penalty adds, which weights and mask decide.

    Tensors outside the backbone that the penalty reaches are its own and say nothing of pictures.
    They do say by what factor the update was scaled, as by clipping: that of least squares.
    """
    shared, added = dict(seen.update.tensors), seen.model.penalty_gradient(mask(seen))
    own = [n for n, part in added.items() if not n.startswith(ViT.BACKBONE) and part.any()]
    read = [name for name in own if name in shared]
    size = sum(float(added[name].square().sum()) for name in read)
    scale = sum(float((shared[name] * added[name]).sum()) for name in read) / size if size else 1.0
    for name, part in added.items():
        if name in own:
            shared.pop(name, None)
        elif name in shared:
            shared[name] = shared[name] - scale * part
    return shared
