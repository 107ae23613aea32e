"""In which stages `map` goes down the likelihood of its layers, by what an update leaves open."""

from privbench.attacks._map.cut import bounds
from privbench.attacks._map.posterior import Posterior

Stages = tuple[tuple[float, int | None], ...]
STAGES = ((0.0, 0), (0.1, 1), (0.03, 1), (0.0, 1), (0.0, 2), (0.0, None))
"""Least error, as a share of a tensor's root mean square, and blocks whose layers count, none but
the patch projection at first, and all with the head at last. One picture at noise of 1 % came to
40.2 dB, and to 39.0 without stronger noise at first."""
OF_A_SET = ((0.1, 1), (0.03, 1), (0.01, 1), (0.0, 1), (0.0, 2))
"""The same where some patches are masked, from a closed form that knows of them; from the second on
in coordinates in which the patch projection is round. One picture sent as bfloat16 came to 34.5 dB
after matching by those of one block, and in the prior's coordinates to 29.2."""
GAPS = ((0.1, 0), (0.03, 0), (0.1, 1), (0.03, 1))
"""The same where a defense left entries out and the others are exact. Under `random_entries` a
blank picture came to 16.1, 17.1, 23.5 and 26.5 dB in 40 evaluations each, and from 23.5 on the way
down leads on by itself (trained `vit_vanilla`)."""
CHOSEN = ((0.1, 0), (0.03, 0), (0.3, 1), (0.1, 1), (0.03, 1))
"""The same where it chose them by size. Under `dgp` a blank picture came to 18.3, 18.6, 21.6, 24.0
and 27.2 dB in 40 to 50 each, and under `prune` to 14.9, 15.8, 19.1, 19.7 and 20.0."""
LOW = ((0.1, 0), (0.1, 1), (0.1, 2), (0.1, None), (0.03, None))
"""The same where matrices were cut to a low rank. Under `svd` a blank picture came to 12.8, 19.4,
21.4, 22.6 and 23.3 dB in 70 evaluations each. Another's patches went to wrong places, which no
later stage mended: 11 dB, and 18 after matching (trained `vit_vanilla`)."""


def schedule(posterior: Posterior, masked: bool) -> Stages:
    """Return the stages that suit an update: entries left out, some patches masked, or neither."""
    if posterior.low:
        return LOW
    kept = {name: known > 0 for name, known in posterior.known.items()}
    if all(bool(one.all()) for one in kept.values()):
        return OF_A_SET if masked else STAGES
    most = max(kept, key=lambda name: int(kept[name].sum()))
    return CHOSEN if bounds(posterior.data[most], kept[most]) else GAPS
