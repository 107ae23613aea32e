"""A shard: one of n parts of a suite, the same on every computer."""

import re

from privbench.errors import BadSetting


def parse_shard(text: str) -> tuple[int, int]:
    """Read i/n, both from 1 on; raises BadSetting.

    >>> parse_shard("2/3")
    (2, 3)
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    if match and 1 <= (i := int(match[1])) <= (n := int(match[2])):
        return i, n
    raise BadSetting(f"--shard is a part of the whole such as 2/3, from 1/3 to 3/3, not {text!r}.")


def belongs(key: str, i: int, n: int) -> bool:
    """Say whether a case falls to a shard; its key alone decides, so shards share no case."""
    return int(key[:12], 16) % n == i - 1
