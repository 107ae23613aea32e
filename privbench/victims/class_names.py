"""What the columns of a model's head are called, and which of them a name means."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from privbench.component import find, names
from privbench.dataset import Dataset
from privbench.victims.cards import bundled, card

KEY = "classes"
"""Of a card: names of the classes by column."""
ATTRIBUTE = "class_names"
"""Of a user's own network: names of its classes by column."""
WNID = re.compile(r"n\d{8}(?!\d)")
NUMBERED = re.compile(r"\d+[._ -]+(?=\D)")
"""How some data sets begin their folders' names: 001.Black_footed_Albatross."""
HEADS = {
    1000: "imagenet-1k",
    1001: "imagenet-1k",
    11221: "imagenet-21k-miil",
    11821: "imagenet-12k",
    21841: "imagenet-22k",
    21842: "imagenet-22k-ms",
    21843: "imagenet-21k-goog",
}
"""timm's name for the classes of a head of that width; no other sets are so large."""
BACKGROUND = "background"
"""The first class of a head of 1001."""


def class_names(
    model: str, weights: str, file: str | None, classes: int, network: Any = None
) -> list[str]:
    """Return the names of a model's classes by column; none where nothing tells them.

    They stand in the card of the weights, or follow from the data set that the card names, or
    from the width of the head, which only ImageNet's have. Drawn weights know no classes.
    `weights` is what a record says of them, `file` what the user named.
    """
    if weights == "init":
        return []
    if weights == "own":
        found = getattr(network, ATTRIBUTE, None) or ()
        stated = [str(name) for name in found] if isinstance(found, list | tuple) else []
    else:
        path = bundled(model) if weights == "trained" else Path(file) if file else None
        stated = _of_card(card(path) if path is not None and path.is_file() else None)
    return stated if len(stated) == classes else imagenet_names(classes)


def _of_card(facts: Mapping[str, Any] | None) -> list[str]:
    found = (facts or {}).get(KEY)
    if isinstance(found, list) and all(isinstance(name, str) for name in found):
        return found
    trained = (facts or {}).get("dataset")
    if trained in names(Dataset.shelf):  # a card older than the names in it
        return list(getattr(find(Dataset, trained), "names", ()))
    return []


@cache
def _imagenet(subset: str) -> tuple[str, ...]:
    from timm.data.imagenet_info import ImageNetInfo

    return tuple(ImageNetInfo(subset).label_names())


def imagenet_names(classes: int) -> list[str]:
    """Return the WordNet ids of ImageNet's heads by column; none for a head of another width."""
    if classes not in HEADS:
        return []
    found = _imagenet(HEADS[classes])
    return [*(BACKGROUND for _ in range(classes - len(found))), *found]


@cache
def _synonyms(wnid: str) -> tuple[str, ...]:
    """Return WordNet's words for one of its ids, the usual one first."""
    try:
        return tuple(_info().label_name_to_description(wnid).split(", "))
    except KeyError:
        return ()


@cache
def _info() -> Any:
    from timm.data.imagenet_info import ImageNetInfo

    return ImageNetInfo()


def words(name: str) -> str:
    """Return a class as a reader knows it: the usual word beside a WordNet id."""
    found = _synonyms(name) if WNID.fullmatch(name) else ()
    return f"{name} ({found[0]})" if found else name


def plain(name: str) -> str:
    """Return a name without case, blanks, hyphens and the like."""
    return re.sub(r"[\s_\-'.]+", "", name.casefold()) or name


class Columns:
    """Finds the columns that a name may mean, the surest first."""

    def __init__(self, known: Sequence[str]) -> None:
        self.known = list(known)
        self.levels: list[dict[str, list[int]]] = [{}, {}, {}]
        for column, name in enumerate(known):
            said = _synonyms(name) if WNID.fullmatch(name) else ()
            for level, keys in enumerate(([name], [plain(name), *map(plain, said[:1])], said[1:])):
                for key in dict.fromkeys(map(plain, keys) if level == 2 else keys):
                    self.levels[level].setdefault(key, []).append(column)

    def find(self, name: str) -> list[int]:
        """Return one column, several where the name is ambiguous, or none."""
        for keys in _readings(name):
            for level in self.levels:
                if found := sorted({c for key in keys for c in level.get(key, ())}):
                    return found
        return []


def _readings(name: str) -> list[list[str]]:
    """Return what a folder's name may mean, the surest first; each reading has some spellings."""
    found = [[name], [plain(name)]]
    if match := WNID.match(name):
        found += [[match[0]], [plain(word) for word in _synonyms(match[0])]]
    elif match := NUMBERED.match(name):
        found.append([plain(name[match.end() :])])
    return found
