"""Bytes of an update on the wire, by what stands in it: no defense has to say what it sends."""

from collections.abc import Iterator, Mapping
from math import ceil, log2

import torch
from torch import Tensor

WIDE, HALF = 32, 16
"""Bits of a number."""
SHORT_FORMATS = (torch.bfloat16, torch.float16)
MOST_LEVELS = 256
"""Different values up to which a table of them, and numbers of its lines, may be sent."""
SAMPLE = 2048
"""Entries that are looked at first: where these have too many values, all have."""


def bytes_of(tensors: Mapping[str, Tensor]) -> int:
    """Return how many bytes an update takes; what is withheld is not in it."""
    return sum(ceil(_bits(tensor.detach().flatten()) / 8) for tensor in tensors.values())


def _bits(entries: Tensor) -> int:
    """Return the bits of a tensor in the shortest of the plain forms.

    Entries are float32, or 16 bits where that loses nothing, or numbers of lines in a table of at
    most 256 values, sent along. All of them are sent; or those that are not zero, behind a bit for
    each entry, or each behind its place.
    """
    count = entries.numel()
    kept = entries[entries != 0]
    places = max(1, ceil(log2(count))) if count > 1 else 0
    found = [count * width + table for width, table in _widths(entries)]
    if len(kept) < count:
        for width, table in _widths(kept):
            found += [count + len(kept) * width + table, len(kept) * (places + width) + table]
    return min(found)


def _widths(entries: Tensor) -> Iterator[tuple[int, int]]:
    """Yield bits of an entry, and of the table beside, for each form that loses nothing."""
    yield WIDE, 0
    if any(torch.equal(entries.to(short).to(entries), entries) for short in SHORT_FORMATS):
        yield HALF, 0
    if len(entries[:SAMPLE].unique()) <= MOST_LEVELS:
        levels = len(entries.unique())
        if levels <= MOST_LEVELS:
            yield ceil(log2(levels)) if levels > 1 else 0, WIDE * levels
