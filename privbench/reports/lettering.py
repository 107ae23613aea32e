"""How much room letters take, and text broken to fit."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

LEADING = 1.4 / 72
"""Inches between lines, for each point of the letters."""
SPARE = 0.96
"""Share of a width that is filled: hinting on the canvas may widen a line a little."""


def room(text: str, size: float) -> float:
    """Return the height in inches of a text of several lines."""
    return (text.count("\n") + 1) * size * LEADING if text else 0.0


@cache
def wrap(text: str, width: float, size: float, weight: str = "normal") -> str:
    """Break a text into lines of at most so many inches; nothing of it is left out."""
    lines = [""]
    for piece in _pieces(text, width, size, weight):
        if lines[-1] and not _fits(lines[-1] + piece, width, size, weight):
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.strip() for line in lines)


def _pieces(text: str, width: float, size: float, weight: str) -> Iterator[str]:
    """Words, a label's name and its settings; smaller pieces only where a word is too long."""
    for word in re.split(r"(?<= )|(?=\()", text):
        whole = _fits(word, width, size, weight)
        for part in [word] if whole else re.split(r"(?<=[-_=+.,/@])", word):
            yield from [part] if _fits(part, width, size, weight) else part


def _fits(line: str, width: float, size: float, weight: str) -> bool:
    return _length(line.strip(), size, weight) <= SPARE * width


@cache
def _length(line: str, size: float, weight: str) -> float:
    """Return the length of a line in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight=weight)
    with boxes_for_unknown_letters():
        points, _, _ = text_to_path.get_text_width_height_descent(line, font, ismath=False)
    return points / 72


@contextmanager
def boxes_for_unknown_letters() -> Iterator[None]:
    """Draw a letter that the font lacks, as in a file's name, as a box without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield
