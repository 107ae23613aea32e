"""Which defended rows no attack has faced that was made for their defense."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache

from privbench.component import names
from privbench.declared import attribute
from privbench.errors import PrivbenchError
from privbench.records.case import UNDEFENDED, Case, Record
from privbench.victims.preset import model_preset

SHELF = "defenses"

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
    if defense not in names(SHELF):
        return ()
    value = attribute(SHELF, defense, "answered_by")
    return tuple(ast.literal_eval(value)) if value is not None else ()


def _defenses(case: Case) -> list[str]:
    """Return the names of a case's defenses, that in the model among them.

    A victim that is its own control has none in it.
    """
    found = [part.name for part in case.defense if part.name != UNDEFENDED]
    if case.control in (None, case.model.label):
        return found
    scheme = case.model.settings.get("scheme")
    if scheme is None:
        try:
            scheme = model_preset(case.model.name).scheme
        except PrivbenchError:  # of a version of this program that had other victims
            return found
    return [str(scheme), *found]
