"""What a run would do: its cases, and their cost as records of the same kind had it."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from privbench.records.case import Case, Record
from privbench.running.jobs import Job

SIZES = ("img_size", "patch_size", "embed_dim", "depth", "num_heads")
"""Settings of a victim that decide what a gradient costs."""


@dataclass
class Forecast:
    """Cases of one attack on one victim under one defense."""

    attack: str
    model: str
    defense: str
    cases: int = 0
    done: int = 0
    """On record already."""
    refused: int = 0
    """That the attack cannot run."""
    known: int = 0
    """Of those to run, how many have an estimate by records."""
    guessed: int = 0
    """Of the others, for how many the suite says what they take."""
    gradient_calls: float = 0.0
    """Of those that have one."""
    seconds: float = 0.0
    """Of their work, one case after another."""
    guessed_seconds: float = 0.0
    """What the suite says of those for which it speaks."""

    @property
    def to_run(self) -> int:
        """Cases that a run would begin."""
        return self.cases - self.done - self.refused


@dataclass
class _Cost:
    cases: int = 0
    gradient_calls: float = 0.0
    seconds: float = 0.0


def forecast(
    jobs: Sequence[Job], records: Iterable[Record], *, retry_failed: bool = False
) -> list[Forecast]:
    """Return a row for each attack, victim and defense, in the order of the jobs.

    A case costs the mean of the records of its kind: the same attack with the same settings under
    the same threat model, on the same victim under the same defense, else on any victim of the
    same sizes. Where there is neither, it has what its suite says, or no estimate.
    """
    known = list(records)
    again = ("failed", "refused") if retry_failed else ("refused",)
    there = {one.case.key for one in known if one.status not in again}
    costs = _costs(known)
    rows: dict[tuple[str, str, str], Forecast] = {}
    for job in jobs:
        case = job.case
        named = (case.attack.label, case.model.label, case.defended)
        row = rows.setdefault(named, Forecast(*named))
        row.cases += 1
        if case.key in there:
            row.done += 1
        elif job.refusal is not None:
            row.refused += 1
        elif cost := next((costs[kind] for kind in _kinds(case) if kind in costs), None):
            row.known += 1
            row.gradient_calls += cost.gradient_calls / cost.cases
            row.seconds += cost.seconds / cost.cases
        elif job.guess is not None:
            row.guessed += 1
            row.guessed_seconds += job.guess
    return list(rows.values())


def _costs(records: Iterable[Record]) -> dict[Hashable, _Cost]:
    found: dict[Hashable, _Cost] = {}
    for record in records:
        if record.status == "done" and record.seconds is not None:
            for kind in _kinds(record.case):
                cost = found.setdefault(kind, _Cost())
                cost.cases += 1
                cost.gradient_calls += record.gradient_calls
                cost.seconds += record.seconds
    return found


def _kinds(case: Case) -> tuple[Hashable, Hashable]:
    """Return what records of the same kind share, the nearest kind first."""
    attack = (case.attack.label, case.attack.version, case.known)
    sizes = tuple(case.model.settings.get(name) for name in SIZES)
    # one of timm's says its sizes by its name alone
    alike = sizes if any(sizes) else case.model.label
    return (*attack, case.model.label, case.defended), (*attack, alike)
