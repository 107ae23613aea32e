"""The errors a user can cause, one or two sentences each."""

import difflib
from collections.abc import Iterable, Sequence

MOST_LISTED = 100


LONGEST_WORD = 300
LONGEST = 2500
"""Letters of a message; a list of a hundred names fits."""


class PrivbenchError(Exception):
    """A user's mistake; printed without traceback, exit code 2.

    What a message quotes may be anything: it stays one line, and no longer than one can read.
    """

    def __init__(self, message: str = "") -> None:
        words = (_shortened(word, LONGEST_WORD) for word in _on_one_line(message).split(" "))
        super().__init__(_shortened(" ".join(words), LONGEST))


def _on_one_line(text: str) -> str:
    """Make a space of a line break, and what would steer a terminal what repr makes of it."""
    text = " ".join(text.splitlines())
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(letter: str) -> str:
    return letter if letter.isprintable() else repr(letter)[1:-1]


def _shortened(text: str, longest: int) -> str:
    """Leave out the middle of a text: it begins with the fault and ends with the advice."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[: half - 3]} ... {text[-half + 2 :]}"


class UnknownName(PrivbenchError, LookupError):
    """No component, preset or setting has that name."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        if not names:
            choices = " There are none: leave it out."
        elif len(names) <= MOST_LISTED:
            choices = f" Known: {', '.join(names)}."
        else:
            choices = "" if close else f" It is one of {len(names)}, such as '{names[0]}'."
        super().__init__(f"No {what} is called '{name}'.{hint}{choices}")

    @classmethod
    def refuse(cls, what: str, given: Iterable[str], known: Iterable[str]) -> None:
        """Raise for the first given name that is not known."""
        names = list(known)
        for name in given:
            if name not in names:
                raise cls(what, name, names)


class BadSetting(PrivbenchError, ValueError):
    """A setting, option or preset has a value that it cannot take."""


class BadData(PrivbenchError, ValueError):
    """A picture, a label file or a folder cannot be used."""


class Unreadable(BadData):
    """One picture cannot be decoded; others may be fine."""


class BadWeights(PrivbenchError, ValueError):
    """A weights file cannot be read or belongs to another model."""


class NotFinite(PrivbenchError, ValueError):
    """A number that figures would be made of is NaN or infinite."""

    def __init__(self, message: str, rows: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.rows = rows
        """Places in the batch that it concerns."""


class BadUpdate(PrivbenchError, ValueError):
    """An update holds nothing that an attack could work on."""


class UnsupportedModel(PrivbenchError):
    """A backbone that this project cannot attack."""


class NotGranted(PrivbenchError):
    """An attack needs knowledge or a tensor that it does not get."""


class OutOfMemory(PrivbenchError):
    """One case alone does not fit into memory."""

    def __init__(self) -> None:
        super().__init__(
            "Not enough memory for a single case. Take a smaller --batch-size or a smaller "
            "model, or another device."
        )


class WorkerLost(PrivbenchError):
    """A process that worked for this one was killed."""


class NoCluster(PrivbenchError):
    """The cluster that a run was to go to is not there, or the package that speaks to it."""


class NoDevice(PrivbenchError):
    """The device asked for is not there."""


class Unwritable(PrivbenchError, OSError):
    """A folder cannot be written."""
