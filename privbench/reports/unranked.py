"""Which defended rows no attack has faced that was made for their defense."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from privbench.component import names
from privbench.errors import PrivbenchError
from privbench.records.case import UNDEFENDED, Case, Record
from privbench.victims.preset import model_preset

UNDEFENDED_SCHEME = "vanilla"

Situation = tuple[str, ...]
"""All that a row has but its attack."""


def unranked(case: Case, ran: Mapping[Situation, set[str]]) -> str | None:
    """Say that none of the attacks that answer a defense ran; None where one did.

    Where several defenses are in a row, each of them asks for one.
    """
    for name in _defenses(case):
        wanted = answers(name)
        if wanted and not ran[situation(case)] & set(wanted):
            return (
                f"Unranked: no attack that is made for {name} has run here; take one of "
                f"{', '.join(wanted)}."
            )
    return None


def faced(records: Iterable[Record]) -> Mapping[Situation, set[str]]:
    """Return names of attacks that have a score, alone or inside another, by their situation."""
    found: dict[Situation, set[str]] = defaultdict(set)
    for record in records:
        if record.status == "done":
            case = record.case
            found[situation(case)] |= {case.attack.name, *case.nested}
    return found


def situation(case: Case) -> Situation:
    """Return what rows with different attacks share."""
    return (case.model.label, case.weights_sha256, case.defended, case.dataset.label, case.known)


@cache
def answers(defense: str) -> tuple[str, ...]:
    """Return the attacks that a defense says adapt to it, read without importing it."""
    if defense not in names("defenses"):
        return ()
    spec = find_spec(f"privbench.defenses.{defense}")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        match node:
            case ast.AnnAssign(target=ast.Name(id="answered_by"), value=ast.Tuple() as value):
                return tuple(ast.literal_eval(value))
    return ()


def _defenses(case: Case) -> list[str]:
    """Return the names of a case's defenses, that in the model among them."""
    found = [part.name for part in case.defense if part.name != UNDEFENDED]
    try:
        scheme = model_preset(case.model.name).scheme
    except PrivbenchError:  # of a version of this program that had other victims
        scheme = UNDEFENDED_SCHEME
    return found if scheme == UNDEFENDED_SCHEME else [scheme, *found]
