"""Which pictures a grid shows: the first ones, or those that leak most, least, and between."""

from collections.abc import Iterable, Sequence

from privbench.errors import UnknownName
from privbench.records.case import Record

MOST_ROWS = 8
"""Pictures that a grid shows; the table has them all."""
PICKS = ("worst", "median", "best")
"""The picture that leaks most, the middle one, and the one that leaks least."""
LEAK = "psnr"


def picked(columns: Iterable[Sequence[Record]], wanted: Sequence[str] = ()) -> dict[int, str]:
    """Return the numbers of pictures in order, each with the name under which it was picked.

    Pictures are compared by their mean PSNR over all columns, among those that every column has
    a score of (else, that any has). Raises UnknownName for a pick that there is not.
    """
    UnknownName.refuse("pick", wanted, PICKS)
    groups = [list(group) for group in columns]
    everything = sorted({image for group in groups for r in group for image in r.case.images})
    leaks = [_leaks(group) for group in groups]
    common = set.intersection(*map(set, leaks)) if leaks else set()
    shown = common or {image for one in leaks for image in one}
    if not wanted or not shown:
        return dict.fromkeys(everything[:MOST_ROWS], "")
    means = {
        image: sum(known) / len(known)
        for image in shown
        if (known := [one[image] for one in leaks if image in one])
    }
    order = sorted(means, key=lambda image: (-means[image], image))
    places: dict[str, int] = dict(zip(PICKS, (0, len(order) // 2, len(order) - 1), strict=True))
    found: dict[int, str] = {}
    for name in wanted:
        image = order[places[name]]
        found[image] = f"{found[image]}, {name}" if image in found else name
    return found


def _leaks(group: Iterable[Record]) -> dict[int, float]:
    """Return each picture's PSNR, the mean where a group has it several times."""
    found: dict[int, list[float]] = {}
    for record in group:
        for image, value in zip(record.case.images, record.scores.get(LEAK, ()), strict=False):
            if value is not None:
                found.setdefault(image, []).append(value)
    return {image: sum(values) / len(values) for image, values in found.items()}
