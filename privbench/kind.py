"""Kind: what the numbers of a column are, which alone decides their interval."""

from collections.abc import Mapping
from enum import StrEnum
from fnmatch import fnmatchcase


class Kind(StrEnum):
    """What a column of a table or of a record holds."""

    SHARE = "share"
    """Of pictures, each of which counts as 0 or 1: Wilson's interval."""
    PERCENT = "percent"
    """A hundred times such a share: a hundred times Wilson's interval."""
    MEAN = "mean"
    """Of numbers of any size, one per picture: a bootstrap interval over pictures."""
    DIFFERENCE = "difference"
    """Mean of differences, which may be negative: a bootstrap interval over pictures."""
    FIGURE = "figure"
    """No mean, such as an area under a curve: computed anew on every bootstrap sample."""
    COUNT = "count"
    """How many; no interval."""
    VALUE = "value"
    """One number, such as a time, a p value or a mean that only stands beside another figure."""
    TEXT = "text"
    """What a row is about."""


def declared(kinds: Mapping[str, Kind], column: str) -> Kind | None:
    """Return the kind of the first pattern that a column matches; None without one.

    >>> declared({"shuffled_*": Kind.SHARE}, "shuffled_0.5")
    <Kind.SHARE: 'share'>
    """
    return next((kind for pattern, kind in kinds.items() if fnmatchcase(column, pattern)), None)
