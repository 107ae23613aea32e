"""How precise a shared tensor is: rounding, pruning, levels, missing singular values, noise."""

import torch
from jaxtyping import Float
from torch import Tensor

FORMATS = {"bfloat16": 8, "float16": 11}
"""Significant bits, the leading one included."""
SPARSE = 0.01
"""Share of zero entries from which on they count as pruned; set by reason."""
LEVELS, FEW = 256, 8
"""Most sizes that entries of a quantized tensor have, and how often each occurs at least."""
KEPT, SILENT = 1e-5, 1e-5
"""Share of the largest singular value below which one is missing; share of a tensor's size below
which noise is none, as float32 leaves 1e-7. Set by reason."""


def grid(tensor: Tensor) -> str | None:
    """Name of the coarsest format on whose grid all entries lie; None beyond float16."""
    mantissa = torch.frexp(tensor.double()).mantissa
    for name, bits in FORMATS.items():
        steps = mantissa * 2**bits
        if (steps == steps.round()).all():
            return name
    return None


def rounding(tensor: Tensor, bits: int) -> Tensor:
    """Return the standard deviation of rounding to so many significant bits, entry by entry.

    An error is uniform over one step. Steps shrink with the entry down to the smallest that
    occurs: below it the format is out of exponents.
    """
    mantissa, exponent = torch.frexp(tensor.double())
    steps = (mantissa.abs() * 2**bits).long()
    lowest = torch.where(steps > 0, (steps & -steps), 2**bits).double()
    finest = (lowest * torch.exp2(exponent.double() - bits))[steps > 0].min()
    return torch.exp2(exponent.double() - bits).clamp(min=finest) / 12**0.5


def pruned(tensor: Tensor) -> bool:
    """Whether so many entries are zero that somebody must have put them there."""
    return tensor.numel() > 0 and float((tensor == 0).double().mean()) > SPARSE


def pruning(tensor: Tensor) -> Tensor:
    """Return the standard deviation of pruned entries: they lie below the smallest kept one."""
    kept = tensor[tensor != 0].abs()
    return torch.where(tensor == 0, kept.min() / 3**0.5, 1e-3 * kept.min())


def quantized(tensor: Tensor) -> bool:
    """Whether entries have so few sizes that somebody rounded them to a handful of levels."""
    sizes = len(tensor.abs().unique())
    return sizes <= LEVELS and sizes * FEW <= tensor.numel()


def truncation(matrix: Float[Tensor, "r c"]) -> Tensor:
    """Return the standard deviation of what missing singular values would add to each entry.

    They lie anywhere below the smallest one that is there.
    """
    s = torch.linalg.svdvals(matrix)
    there = s > KEPT * s[0]
    missing = (len(s) - int(there.sum())) / 3 * s[there][-1].square()
    return (missing / matrix.numel()).sqrt().expand_as(matrix)


def floored(deviation: Tensor, tensor: Tensor) -> Tensor:
    """Return standard deviations no smaller than what float32 may leave of a tensor."""
    return deviation.clamp(min=float(SILENT * tensor.square().mean().sqrt()))


def deviations(
    token: Float[Tensor, "n d"], embedding: Float[Tensor, "d p"]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "d p"], str]:
    """Return the errors' standard deviations in both gradients, and what kind they are of.

    Entries on a short grid or pruned tell their own. Else the errors are measured where the true
    gradients have nothing: the network ignores a multiple of the all-ones vector added to a
    token, as a LayerNorm follows on every path, so both tensors sum to zero over the width. Where
    they do so to the last digit, what disturbs the equations are singular values left out.
    """
    names = grid(token), grid(embedding)
    coarse = quantized(token) and quantized(embedding)  # then zero is one of the levels
    if not coarse and (pruned(token) or pruned(embedding)):
        return pruning(token), pruning(embedding), "pruned"
    if names[0] and names[1]:
        bits = [FORMATS[name] for name in names if name]
        return rounding(token, bits[0]), rounding(embedding, bits[1]), f"rounded to {names[0]}"
    d = token.shape[1]
    first = token.sum(1).square().mean().div(d).sqrt()
    second = embedding.sum(0).square().mean().div(d).sqrt()
    if first <= SILENT * token.square().mean().sqrt() and not token.isnan().any():
        floor = SILENT * embedding.square().mean().sqrt()
        return truncation(token), truncation(embedding).clamp(min=floor), "of low rank"
    kind = "quantized" if coarse else "noisy"
    return first.expand_as(token), second.expand_as(embedding), kind
