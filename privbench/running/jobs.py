"""A job: a case and what it takes to run it, as plain data that any process can be sent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from privbench.component import Part
from privbench.records.case import Case
from privbench.threat import ThreatModel


@dataclass(frozen=True)
class Recipe:
    """What a victim is built from: names, settings and the place of its weights."""

    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Those that the user set."""
    defenses: tuple[Part, ...] = ()
    """On the update."""
    weights: str | None = None


@dataclass(frozen=True)
class Job:
    """A case, and what its record does not say because it decides nothing.

    There is neither a tensor nor a model in it; a process builds them from what it says.
    """

    case: Case
    recipe: Recipe
    threat: ThreatModel
    data_root: Path | None = None
    """The user's folder of the data set."""
    data: str = ""
    """Digest of the user's data set; empty for one that comes along."""
    refusal: str | None = None
    """Why the attack cannot run here, or None."""
    suite: str = ""
    """Name and version of the suite that asks for it; empty for one without a version."""
    guess: float | None = None
    """Seconds that its suite says, for a forecast."""

    @property
    def seed(self) -> tuple[object, ...]:
        """What all random draws of the case start from."""
        return (self.case.seed, self.case.images_sha256)
