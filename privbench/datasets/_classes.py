"""The classes of ImageNet-1k by WordNet id, and the 200 of each of its three offshoots."""

import json
from functools import cache
from importlib.resources import files
from typing import Literal

Part = Literal["a", "o", "r"]


@cache
def _lists() -> dict[str, tuple[str, ...]]:
    text = (files("privbench.assets") / "classes.json").read_text(encoding="utf-8")
    return {name: tuple(ids) for name, ids in json.loads(text).items()}


@cache
def _columns(part: Part) -> tuple[int, ...]:
    chosen = set(_lists()[part])
    return tuple(index for index, wnid in enumerate(_lists()["all"]) if wnid in chosen)


def wnids() -> list[str]:
    """Return the 1000 ids in sorted order: a class's place is its number in a model's head."""
    return list(_lists()["all"])


def columns(part: Part) -> list[int]:
    """Return the 200 numbers of a 1000-way head among which answers to -A, -O or -R are chosen."""
    return list(_columns(part))
