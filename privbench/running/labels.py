"""Which column of a model's head each class of a data set is: by name, never by the alphabet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from privbench.dataset import ANY, Dataset
from privbench.errors import BadData, BadSetting, UnknownName
from privbench.victims.class_names import Columns, plain, words

KEY = "classes"
"""Setting of every data set: what its classes are to the model."""
IN_ORDER, NUMBERS = "order", "numbers"
SHOWN = 4
"""Names that a sentence lists before it breaks off."""

Placed = Mapping[str, int]
"""Column by the name of a class."""


@dataclass(frozen=True)
class Head:
    """What is known of a model's columns."""

    model: str
    classes: int
    names: Sequence[str] = ()
    """By column; none where nothing tells them."""
    drawn: bool = False
    """Whether its weights were drawn, so that no label is more right than another."""


def own_names(data: Dataset) -> list[str]:
    """Return the names of a data set's classes by its own labels; numbers where it has no names."""
    if not data.labelled():
        return []
    return data.class_names() or [str(n) for n in range(max(data.labels(ANY), default=-1) + 1)]


def own_classes(data: Dataset, placed: Placed | None, classes: int) -> int:
    """Return how many classes to ask a data set for labels of: its own, where they are mapped."""
    return classes if placed is None else len(data.class_names()) or ANY


def mapped(data: Dataset, labels: Sequence[int], placed: Placed | None) -> list[int]:
    """Return the columns of a data set's own labels."""
    if placed is None:
        return list(labels)
    names = own_names(data)
    return [placed[names[label]] for label in labels]


def place(
    title: str, data: Dataset, given: Any, head: Head, *, strict: bool = False
) -> tuple[Placed | None, str]:
    """Return the columns of a data set's classes, and what a reader has to be told.

    None means that its labels are columns already. Given is the user's word: `order`, `numbers`, a
    list with an entry for each class, or a mapping from classes to columns or names. Strict
    refuses a guess, for figures that depend on it. Raises BadData, BadSetting or UnknownName.
    """
    if not data.labelled():
        if given is not None:
            raise BadSetting(f"{title} has no classes, so {KEY} has nothing to say. Leave it out.")
        return None, ""
    if given is not None:
        return _said(title, own_names(data), given, head), ""
    if not (names := data.class_names()):
        return None, ""  # a table of columns
    if head.names:
        return _by_name(title, data, names, head)
    same = len(names) == head.classes
    if head.drawn or not strict or (same and data.standard_order):
        return None, ""
    if same:
        return None, (
            f"{head.model} has no class names: the {len(names)} classes of {title} were taken for "
            "its columns in sorted order."
        )
    raise BadData(
        f"{title} has {_count(len(names), 'class', 'classes')} ({_some(names)}), and nothing tells "
        f"which of the {head.classes} columns of {head.model} they are. Say it: `--set "
        f"'dataset.{KEY}={_example(names)}'`, with a column for each."
    )


def _by_name(
    title: str, data: Dataset, names: Sequence[str], head: Head
) -> tuple[Placed | None, str]:
    if list(names) == list(head.names):
        return None, ""
    columns = Columns(head.names)
    needed = sorted(set(data.labels(len(names))) | set(data.columns() or ()))
    found = {names[label]: columns.find(names[label]) for label in needed}
    wrong = [name for name, places in found.items() if len(places) != 1]
    if wrong:
        if len(wrong) == len(found):
            data.labels(head.classes)  # a released set says best what it needs
        raise BadData(_complaint(title, list(found), wrong, found, head))
    placed: Placed | None = {name: places[0] for name, places in found.items()}
    used = len(set(placed.values()))
    if all(placed[names[label]] == label for label in needed) and _takes(data, head.classes):
        placed = None  # as it is without a word on classes: the record is the same
    if used == head.classes or data.columns() is not None:
        return placed, ""
    return placed, (
        f"{title} has {used} of the {head.classes} classes of {head.model}; answers were chosen "
        "among all of them."
    )


def _takes(data: Dataset, classes: int) -> bool:
    try:
        data.labels(classes)
    except BadData:
        return False
    return True


def _complaint(
    title: str,
    names: Sequence[str],
    wrong: Sequence[str],
    found: Mapping[str, Sequence[int]],
    head: Head,
) -> str:
    if several := [name for name in wrong if found[name]]:
        meant = " or ".join(f"{words(head.names[c])}, column {c}" for c in found[several[0]][:3])
        what = f"'{several[0]}' of {title} may be {meant}"
    else:
        lacks = "none of them" if len(wrong) == len(names) else f"not {_some(wrong)}"
        known = _some([words(name) for name in head.names])
        what = (
            f"{title} has {_count(len(names), 'class', 'classes')}: {_some(names)}. {head.model} "
            f"knows {_count(head.classes, 'class', 'classes')}, {known}, but {lacks}"
        )
    return (
        f"{what}. Say which it is: `--set 'dataset.{KEY}={_guess(wrong, head)}'`, with a class's "
        "name or column for each, or name other pictures."
    )


def _example(names: Sequence[str]) -> str:
    shown = ", ".join(f"{name}: {i}" for i, name in enumerate(names[:SHOWN]))
    return f"{{{shown}{', ...' if len(names) > SHOWN else ''}}}"


def _guess(names: Sequence[str], head: Head) -> str:
    """Show how to map names, to the nearest that the model knows: numbers would be followed."""
    readable = {plain(word): word for one in head.names for word in _words(one)}
    pairs = []
    for name in names[:SHOWN]:
        close = get_close_matches(plain(name), readable, n=1)
        pairs.append(f"{name}: {readable[close[0]] if close else 'NAME'}")
    return f"{{{', '.join(pairs)}{', ...' if len(names) > SHOWN else ''}}}"


def _words(name: str) -> list[str]:
    """Return a class's name, and its usual word where it is a WordNet id."""
    return [name, words(name).removeprefix(f"{name} (").removesuffix(")")]


def _said(title: str, names: Sequence[str], given: Any, head: Head) -> Placed | None:
    """Read the user's word."""
    if given == IN_ORDER:
        if len(names) > head.classes:
            raise BadSetting(
                f"{title} has {len(names)} classes, and {head.model} {head.classes}. Take some "
                f"away, or name columns as `--set 'dataset.{KEY}={_example(names)}'`."
            )
        return {name: column for column, name in enumerate(names)}
    if given == NUMBERS:
        return {name: _column(title, name, name, head) for name in names}
    if isinstance(given, Mapping):
        said = {str(name): value for name, value in given.items()}
        UnknownName.refuse(f"class of {title}", said, names)
        return {name: _column(title, name, said.get(name, name), head) for name in names}
    if isinstance(given, list | tuple):
        listed = [str(value) for value in given]
        if not head.names and set(names) <= set(listed) and len(set(listed)) == len(listed):
            if len(listed) > head.classes:
                raise BadSetting(
                    f"dataset.{KEY} lists {len(listed)} classes, and {head.model} has "
                    f"{head.classes}. List these only."
                )
            return {name: listed.index(name) for name in names}  # the columns, in order
        if len(given) != len(names):
            raise BadSetting(
                f"dataset.{KEY} lists {len(given)} classes, and {title} has {len(names)}: "
                f"{_some(names)}. Give one for each, or a mapping such as {_example(names)}."
            )
        pairs = zip(names, given, strict=True)
        return {name: _column(title, name, value, head) for name, value in pairs}
    raise BadSetting(
        f"dataset.{KEY} is {IN_ORDER}, {NUMBERS}, a list or a mapping such as {_example(names)}; "
        f"not {given!r}."
    )


def _column(title: str, name: str, value: Any, head: Head) -> int:
    """Return the column that a number or a name means."""
    found: list[int] = []
    if type(value) is int or (isinstance(value, str) and value.isdecimal()):
        number = int(value)
        found = [number] if 0 <= number < head.classes else []
    if not found and isinstance(value, str):
        found = Columns(head.names).find(value)
    if len(found) == 1:
        return found[0]
    if found:
        meant = " or ".join(f"{c} ({words(head.names[c])})" for c in found[:3])
        raise BadSetting(f"Class '{name}' of {title}: '{value}' may be column {meant}. Name one.")
    known = f" or one of its classes, {_some([words(n) for n in head.names])}" if head.names else ""
    raise BadSetting(
        f"Class '{name}' of {title}: '{value}' is no class of {head.model}. Give a column from 0 "
        f"to {head.classes - 1}{known}, as in `--set 'dataset.{KEY}={{{name}: 0}}'`."
    )


def _count(n: int, one: str, more: str) -> str:
    return f"{n} {one if n == 1 else more}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
