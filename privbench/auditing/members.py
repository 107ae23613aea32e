"""What each attack of an ensemble needed, whether it had it, and how near it came."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from privbench.attack import Attack, check
from privbench.component import find, make
from privbench.errors import NotGranted, UnsupportedModel
from privbench.observation import Observation
from privbench.roles import NAMES
from privbench.threat import Reconstruction

LISTED = 2
"""Tensors that a refusal names; an attack may read a whole block's."""
DISTANCE = "distance_"
"""What an ensemble's report calls its members' distances, up to the name."""


@dataclass(frozen=True)
class Row:
    """One attack in an audit."""

    name: str
    needs: str
    had: str
    """Yes, or why not."""
    distance: float | None
    """Of its candidate's gradient to the update, by its own measure; None where it did not run."""
    chosen: bool = False


def rows(
    attack: str, settings: Mapping[str, Any], seen: Observation, answer: Reconstruction
) -> tuple[Row, ...]:
    """Return a row for each member, or for an attack that runs alone."""
    names = make(Attack, attack, settings).nested() or (attack,)
    return tuple(_row(name, seen, answer, alone=name == attack) for name in names)


def _row(name: str, seen: Observation, answer: Reconstruction, *, alone: bool) -> Row:
    kind = find(Attack, name)
    wants = [NAMES[role] for role in sorted(kind.roles)] + sorted(kind.needs)
    try:
        check(make(Attack, name, {}), name, seen.knows, seen.update.tensors, seen.model.vit)
        had = "yes"
    except (NotGranted, UnsupportedModel) as error:
        had = _short(str(error).partition(". ")[0], f"Attack '{name}' ")
    found = [
        value
        for key, value in answer.report.items()
        if key.removeprefix(DISTANCE).partition("/")[0] == name and key.startswith(DISTANCE)
    ]
    distance = answer.objective if alone else min(found, default=None)
    chosen = alone or answer.choice.partition("/")[0] == name
    return Row(name, "; ".join(wants) or "any gradient", had, distance, chosen)


def _short(refusal: str, subject: str) -> str:
    """Leave out whose refusal it is, and of a long list all but the first."""
    text = refusal.removeprefix(subject)
    names = text.split(", ")
    listed = [one for one in names if not one.startswith("which")]
    if len(listed) <= LISTED:
        return text
    rest = [one for one in names if one.startswith("which")]
    return ", ".join([*listed[:LISTED], f"and {len(listed) - LISTED} more", *rest])
