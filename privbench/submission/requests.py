"""Whether records were asked for by the names and suites under which they would be shown."""

from collections.abc import Collection, Mapping
from functools import cache

from privbench.errors import PrivbenchError
from privbench.records.asked import Asked, Register, requests
from privbench.running.suite import Suite
from privbench.submission.faults import Findings
from privbench.submission.named import MARKUP
from privbench.victims.preset import preset_names

Keys = Mapping[str, Collection[str]]
"""Of all cases of a suite, by its name and version."""


def request_faults(
    register: Register, sets: Mapping[str, str], keys: Keys, findings: Findings
) -> None:
    """Note what is wrong with the names by which records were asked for, once for each file.

    `sets` has the name of the data set of each record, by key.
    """
    for path in register.files():
        if path.is_symlink() or (asked := requests(path)) is None:
            findings.add(path, "file", "is torn, edited or a link: nobody knows what it asked for.")
            continue
        for key, one in asked:
            if key in sets and (wrong := _wrong(key, one, sets[key], keys)):
                findings.add(path, "label", f"asks for {key[:12]} {wrong}")
                break


def _wrong(key: str, asked: Asked, dataset: str, keys: Keys) -> str | None:
    """Return what is wrong with one request, None if nothing is."""
    if MARKUP.search(f"{asked.name} {asked.suite}"):
        return f"by HTML, {asked.name!r} and {asked.suite!r}: a title is a name and its settings."
    if asked.name.partition("(")[0].partition("@")[0] != dataset:
        return f"as {asked.name!r}, and its pictures are of {dataset}."
    due = _labels().get(asked.suite.partition(" ")[0])
    if due is not None and asked.suite != due:
        return f"in suite {asked.suite!r}, which is {due!r} here."
    if asked.suite in keys and key not in keys[asked.suite]:
        return f"in suite {asked.suite!r}, which has no such case."
    return None


@cache
def _labels() -> Mapping[str, str]:
    """Return name and version of each bundled suite by its name, empty of one without version."""
    found: dict[str, str] = {}
    for name in preset_names("suites"):
        try:
            found[name] = Suite.build({}, name).label
        except PrivbenchError:  # one that needs a folder or a name beside it has no version
            continue
    return found
