"""How many pictures of a data set may be unreadable: one rule for training and evaluation."""

from collections.abc import Mapping

from privbench.errors import BadData

TOLERATED = 0.001
"""Share of unreadable pictures up to which a figure over the others is still worth having."""
NAMED = 3
"""Unreadable pictures that a warning names."""


def refuse_many(unreadable: Mapping[int, str], total: int) -> None:
    """Raise BadData where more than a thousandth of all pictures cannot be read."""
    if len(unreadable) > TOLERATED * total:
        raise BadData(
            f"{len(unreadable)} of {total} pictures cannot be read, more than {TOLERATED:.1%}. "
            f"{next(iter(unreadable.values()))}"
        )


def left_out(unreadable: Mapping[int, str], total: int) -> str:
    """Return a sentence on unreadable pictures; empty without any."""
    if not unreadable:
        return ""
    first = " ".join(list(unreadable.values())[:NAMED])
    return f"{len(unreadable)} of {total} pictures left out: {first}"
