"""YAML as users write it: plain values, whatever the text."""

from typing import Any

import yaml

DEEPEST = 50
"""Levels of lists in lists; the settings that there are need three."""
MOST = 100_000
"""Values once every reference is written out; nine levels of nine references are 10**8."""


class NotYaml(ValueError):
    """A text that is no YAML, or holds what no setting can be."""


def read_yaml(text: str) -> Any:
    """Return plain values (safe_load); raises NotYaml for all else.

    PyYAML's own readers of numbers, dates and sets raise errors of many types on text that only
    looks like one, and a reference to itself or to a reference has no end when it is printed.
    """
    try:
        found = yaml.safe_load(text)
        _check(found)
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise NotYaml(str(error)) from None
    except RecursionError:
        raise NotYaml("too deep") from None
    return found


def _check(found: Any) -> None:
    """Walk over all values, a reference as often as it is named."""
    waiting = [(found, 0)]
    seen = 0
    while waiting:
        value, level = waiting.pop()
        seen += 1
        if seen > MOST or level > DEEPEST:
            raise NotYaml("too large")
        if isinstance(value, str) and "\0" in value:
            raise NotYaml("a character that no name of a file has")
        if isinstance(value, dict):
            value = [*value.keys(), *value.values()]
        if isinstance(value, list | tuple):
            waiting += [(one, level + 1) for one in value]
