"""Do what a message says: run what it names, add what it adds, leave out what it leaves out."""

import re
import shlex
from pathlib import Path

from tests.advice.stop import Stop
from tests.fuzz.civil import command


def words_of(text: str, folder: Path) -> list[str]:
    """Split a command line."""
    return shlex.split(text.replace("TMP", str(folder)))


def call(words: list[str]) -> tuple[int, str]:
    """Run a command; what it prints comes back on one line."""
    code, text = command(*words)
    return code, " ".join(text.split())


def pattern(fragment: str) -> str:
    """Return the regular expression of a text whose gaps are {}."""
    return re.escape(" ".join(fragment.split())).replace(r"\{\}", ".*?")


def added(words: list[str], text: str) -> list[str]:
    """Return a command with options: one that it has already gets the new value."""
    found, new = list(words), shlex.split(text)
    for option, value in zip(new[::2], new[1::2], strict=True):
        if option == "--set":
            found = without(found, value.partition("=")[0])
        elif option in found:
            at = found.index(option)
            del found[at : at + 2]
        found += [option, value]
    return found


def without(words: list[str], name: str) -> list[str]:
    """Return a command without an option, or without --set of a setting."""
    found: list[str] = []
    pairs = iter(words)
    for word in pairs:
        if word == name:
            next(pairs)
        elif word == "--set":
            setting = next(pairs)
            found += [] if setting.partition("=")[0] == name else [word, setting]
        else:
            found.append(word)
    return found


def follow(stop: Stop, folder: Path) -> None:
    """Come to a stop, do as its message says, and see that it has gone."""
    words = words_of(stop.command, folder)
    for one in filter(None, stop.before.split(" ! ")):
        assert call(words_of(one, folder))[0] == 0
    code, text = call(words)
    assert re.search(pattern(stop.answer), text), text
    assert code in stop.ends, text
    [*_, last] = re.finditer(stop.advice, text)
    typed = str(last[last.lastindex or 0]).rstrip(".")
    for gap, value in stop.gaps.items():
        typed = typed.replace(gap.rstrip("."), value.replace("TMP", str(folder)))
    also = stop.also.replace("TMP", str(folder))
    if ran := typed.startswith("privbench "):
        own = also if not typed.startswith("privbench list") else ""
        code, printed = call(words_of(f"{typed.removeprefix('privbench ')} {own}", folder))
        assert code == 0, printed
        assert not stop.choice or stop.choice.split()[-1] in printed
        if stop.ends == (0,):
            return
    choice = stop.choice.replace("TMP", str(folder))
    if choice:
        words = added(without(words, stop.drop), f"{choice} {also}")
    elif re.fullmatch(r"--\S+ .+", typed):
        words = added(words, f"{typed} {also}")
    elif not ran:
        words = without(words, typed)
    code, text = call(words)
    assert not re.search(pattern(stop.answer), text), f"the same again: {text}"
    if stop.next:
        assert re.search(pattern(stop.next), text), text
    else:
        assert code == 0, f"{shlex.join(words)}: {text}"
