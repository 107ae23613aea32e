"""What the head's gradient says of the features that the head saw: for one picture, everything.

With logits W f + a the head's gradients are (q - y) f^T for the weights and q - y for the bias. So
f is any row over its entry of the bias gradient (Maui, arXiv:2509.11451), and all rows together
give it by least squares, each entry weighted by its known error.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from privbench.attacks._update.reading import measured
from privbench.attacks._update.stated import of_defense
from privbench.attacks._update.system import tensor
from privbench.attacks._update.wire import errors
from privbench.client_step import ClientStep
from privbench.errors import BadUpdate, NotGranted
from privbench.jacobian import precision
from privbench.observation import Observation
from privbench.vit import ViT

LEAST = 1e-6
"""Error that every entry is taken to have, as a share of its tensor's root mean square."""
SIZES = 10 ** torch.linspace(-1, 1, 401, dtype=torch.float64)
"""Lengths that features are tried at, as shares of a usual one; 1 % apart."""

Row = Float[Tensor, " f"]


class Features(NamedTuple):
    """Features of each picture as the head saw them, float64, and the variance of their errors."""

    values: Float[Tensor, "b f"]
    variances: Float[Tensor, "b f"]
    """Infinite where no entry tells one."""


def features(seen: Observation, known: Int[Tensor, " b"], usual: Row) -> Features:
    """Read features off the head's gradient.

    Of several pictures each has the rows of its own label, which hold a little of the others'
    (iLRG, Ma et al., ICLR 2023); pictures of one class share one mean. Where no bias tells the
    length of one picture's features, or the defense scaled each tensor by itself, they have the
    one at which the head's own answer agrees best; usual is a length to search around. Raises
    NotGranted or BadUpdate.
    """
    shared, defense = measured(seen), seen.model.defense
    rows, alone = tensor(shared, ViT.HEAD), len(known) == 1  # c f
    told = ViT.HEAD_BIAS in shared and bool(shared[ViT.HEAD_BIAS].any())
    loose = defense.by_tensor or not told
    if not rows.any():
        raise BadUpdate("The head's gradient is zero: it holds nothing of the picture.")
    if loose and not alone:
        raise NotGranted(
            "Features of several pictures need the head's bias gradient, at the scale of its "
            "weights'. Share it, or take a batch of one picture."
        )
    slopes = tensor(shared, ViT.HEAD_BIAS) if told else _slopes(rows, int(known))
    certain = precision(
        {ViT.HEAD: rows}, [of_defense(seen), errors(seen)], defense.measured(shared), LEAST
    )[ViT.HEAD]
    if not alone:  # b c: each picture's own row, and no other
        own = torch.arange(len(slopes), device=slopes.device) == known[:, None]
        slopes = torch.where(own, slopes, 0)
    each = slopes.view(len(known), -1)
    size = each.square() @ certain
    values = (each @ (certain * rows)) / torch.where(size > 0, size, 1)
    if loose:
        values = values * _length(seen, values[0], slopes, known, usual)
    return Features(values, torch.where(size > 0, 1 / size, torch.inf))


def _slopes(rows: Float[Tensor, "c f"], label: int) -> Float[Tensor, " c"]:
    """Return q - y of one picture but for its size: the direction that all columns share."""
    found = torch.linalg.svd(rows, full_matrices=False).U[:, 0]
    return -found if found[label] > 0 else found


def _length(
    seen: Observation, row: Row, slopes: Float[Tensor, " c"], known: Int[Tensor, " 1"], usual: Row
) -> Float[Tensor, ""]:
    """Return the factor at which q - y of the head's own answer points as the shared one does."""
    vit = seen.model.vit
    head = vit.heads[0]
    tried = SIZES.to(row)[:, None] * (usual.double().norm() / row.norm())
    offset = 0 if head.bias is None else head.bias.detach().double()
    answers = (tried * row) @ head.weight.detach().double().T + offset
    blank = vit.mean.expand(1, -1, vit.side, vit.side)
    wanted = ClientStep(vit, seen.model.defense).prepare(blank, known, None)[1]
    found = answers.softmax(1) - wanted.detach().double()
    return tried[((found @ slopes) / found.norm(dim=1)).argmax(), 0]
