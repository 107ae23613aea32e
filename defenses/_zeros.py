"""Entries that a defense set to zero, which everybody sees."""

from collections.abc import Mapping

from jaxtyping import Bool
from torch import Tensor


def nonzero(tensors: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, "..."]]:
    """Return the entries that are not zero, of tensors that have any zeros."""
    return {name: tensor != 0 for name, tensor in tensors.items() if not tensor.all()}
