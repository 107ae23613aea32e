"""The linear system that known position embeddings put on the patches."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from privbench.attacks._update.system import tensor
from privbench.errors import BadUpdate
from privbench.observation import PublicModel
from privbench.threat import Draw
from privbench.vit import ViT

SMALL = 1e-6
"""Entries of the first LayerNorm's weight below this share of the largest let nothing through."""


@dataclass(frozen=True)
class Marks:
    """System A C = S_k with patches X = C^T R^T, for each table k of position embeddings."""

    patches: Float[Tensor, "p r"]
    """R, an orthonormal basis of the patches."""
    system: Float[Tensor, "d r"]
    """A, the embedded basis off the span of the tokens."""
    sides: tuple[Float[Tensor, "d n"], ...]
    """What A C has to be, under the ordinary table and under the unknown embedding, if any."""
    size: float
    """Largest singular value of the embedded basis before the span was taken out."""
    equations: int
    """Dimensions off the span of the tokens."""


def read(shared: Mapping[str, Tensor], model: PublicModel, batch: int) -> Marks:
    """Build the system; raises BadUpdate, NotGranted or UnsupportedModel."""
    vit = model.vit
    weight = tensor(shared, ViT.PROJECTION).flatten(1)  # d p
    qkv_name = vit.qkv.weight_name
    qkv = tensor(shared, qkv_name)
    for name, gradient in ((ViT.PROJECTION, weight), (qkv_name, qkv)):
        if not gradient.any():
            raise BadUpdate(f"The gradient of {name} is zero everywhere: it spans nothing.")
    n, (d, p) = vit.grid**2, weight.shape
    patches = _span(weight, min(batch * n, p))
    norm = vit.first_norm
    gain, shift = norm.weight.detach().double(), norm.bias.detach().double()
    open_ = gain.abs() > SMALL * gain.abs().max()
    # Rows of one size: those of queries and keys are small, and rounding is relative to a row.
    rows = qkv / qkv.norm(dim=1, keepdim=True).clamp(min=torch.finfo(qkv.dtype).tiny)
    inputs = _span(rows, min(batch * vit.tokens, d))
    parts = [inputs / gain[:, None], (shift / gain)[:, None], torch.ones_like(gain)[:, None]]
    u, s, _ = torch.linalg.svd(torch.cat(parts, dim=1)[open_], full_matrices=False)
    tokens = u[:, s > 1e-10 * s[0]]

    def off(matrix: Tensor) -> Tensor:
        return matrix[open_] - tokens @ (tokens.T @ matrix[open_])

    stem = vit.stem
    embedded = stem.weight.detach().double() @ patches
    bias = 0.0 if stem.bias is None else stem.bias.detach().double()
    sides = [-off((table[0, vit.prefix :].double() + bias).T) for table in _tables(model)]
    return Marks(
        patches=patches,
        system=off(embedded),
        sides=tuple(sides),
        size=float(torch.linalg.matrix_norm(embedded, 2)),
        equations=int(open_.sum()) - tokens.shape[1],
    )


def _span(matrix: Float[Tensor, "a b"], rank: int) -> Float[Tensor, "b r"]:
    """Orthonormal basis of the row space of a matrix whose rank is known."""
    return torch.linalg.svd(matrix, full_matrices=False).Vh[:rank].T


def _tables(model: PublicModel) -> list[Float[Tensor, "_ k d"]]:
    """Return the ordinary position table, and that of masked patches where there is a mask."""
    tables = [model.defense.positions(model.vit, None)]
    if "mask" in model.defense.disclosed():
        n, device = model.vit.grid**2, model.vit.mean.device
        every = torch.ones(1, n, dtype=torch.bool, device=device)
        draw = Draw(every, torch.arange(n, device=device)[None])
        tables.append(model.defense.positions(model.vit, draw))
    return [table.detach() for table in tables]
