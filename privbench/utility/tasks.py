"""Utility records sorted into tasks: passes of one evaluation of one model over one set of data."""

import hashlib
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from privbench.records.asked import DIGITS
from privbench.records.sealed import newest_of_each
from privbench.records.utility import UtilityCase, UtilityRecord
from privbench.utility.corruption_error import Cells, PerImage

ORDINARY = (("corruption", "none"), ("pictures", "clean"), ("side", "inside"))
"""Conditions of the passes over pictures that an evaluation compares its own with."""
SETTINGS = re.compile(r"\(([^()]*)\)")

Who = tuple[str, str, str, str]
"""Label, name of the weights, twelve digits of them, scheme."""


@dataclass(frozen=True)
class Task:
    """Passes of one evaluation of one model over one set of data."""

    name: str
    passes: Sequence[UtilityRecord]
    mark: str = ""
    """Some digits that tell its data from others of the same name."""

    @property
    def dataset(self) -> str:
        """Name of the pictures that it is about."""
        own = [one for one in self.passes if not _ordinary(one.case)]
        return data_name((own or self.passes)[0].case) + self.mark

    @property
    def compared(self) -> str:
        """Name of the ordinary pictures that it compares these with; empty without any."""
        beside = [one for one in self.passes if _ordinary(one.case)]
        return data_name(beside[0].case) if beside else ""

    @property
    def recipe(self) -> str:
        """Recipe of the corruptions; empty where there are none."""
        return str(self.passes[0].case.condition.get("recipe", ""))

    @property
    def n(self) -> int:
        """Pictures of the first pass."""
        return self.passes[0].case.n

    @property
    def data(self) -> frozenset[tuple[str, str]]:
        """What was shown, by condition: the same for all models that were shown the same."""
        return frozenset((_condition(one.case), one.case.images_sha256) for one in self.passes)

    def column(self, name: str, **condition: object) -> PerImage | None:
        """Return a column of the pass that has this condition; None where there is none."""
        for record in self.passes:
            if condition.items() <= record.case.condition.items() and name in record.values:
                return np.array(record.values[name], dtype=float)
        return None

    def cells(self) -> Cells:
        """Return wrong answers by corruption and severity, ("none", 0) for clean pictures."""
        return {
            (str(c["corruption"]), int(c["severity"])): np.array(one.values["wrong"], dtype=float)
            for one in self.passes
            if "corruption" in (c := one.case.condition)
        }


def tasks(records: Iterable[UtilityRecord]) -> dict[Who, list[Task]]:
    """Return what was measured of each model, each evaluation at its newest, by set of data.

    A task's passes were asked for together, or are all of one name and number of pictures; where
    two of these are about different pictures, each is a task of its own. Of the seeds the one with
    the most passes counts, then the lowest; of an evaluation in one pass the most pictures of a
    name.
    """
    groups: dict[Who, dict[str, list[UtilityRecord]]] = {}
    for one in sorted(
        newest_of_each(records, _question), key=lambda one: (one.case.n, one.case.key)
    ):
        case = one.case
        scheme = str(case.model.settings.get("scheme", ""))
        who = (case.model.label, case.weights, case.weights_sha256[:12], scheme)
        groups.setdefault(who, {}).setdefault(case.evaluation.label, []).append(one)
    found: dict[Who, list[Task]] = {}
    for who, evaluations in groups.items():
        for name, passes in sorted(evaluations.items()):
            made = _whole([Task(name, _best(group)) for group in _of_one_set(passes)])
            made = made if made[0].passes[0].case.condition else _largest(made)
            found.setdefault(who, []).extend(
                sorted(made, key=lambda one: (one.dataset, -one.n, sorted(one.data)))
            )
    return _told_apart(found)


def data_name(case: UtilityCase) -> str:
    """Return the name of a pass's pictures without the settings that its condition says already."""

    def rest(match: re.Match[str]) -> str:
        kept = [one for one in match[1].split(", ") if one.split("=")[0] not in case.condition]
        return f"({', '.join(kept)})" if kept else ""

    return SETTINGS.sub(rest, case.dataset.label)


def _told_apart(found: Mapping[Who, Sequence[Task]]) -> dict[Who, list[Task]]:
    """Lengthen names of data sets that stand for different pictures under one condition."""
    known: dict[Hashable, set[str]] = {}
    for task in chain(*found.values()):
        for one in task.passes:
            known.setdefault(_place(task, one), set()).add(one.case.images_sha256)

    def told(task: Task) -> Task:
        if all(len(known[_place(task, one)]) == 1 for one in task.passes):
            return task
        digest = hashlib.sha256(str(sorted(task.data)).encode()).hexdigest()
        return replace(task, mark=f" [{digest[:DIGITS]}]")

    return {who: [told(task) for task in measured] for who, measured in found.items()}


def _place(task: Task, one: UtilityRecord) -> Hashable:
    return task.name, data_name(one.case), _condition(one.case), one.case.n


def _of_one_set(passes: Sequence[UtilityRecord]) -> Iterator[list[UtilityRecord]]:
    """Yield passes that belong together: asked for at once, else of one name and number.

    Ordinary pictures go with each set. What is known to contradict the others stays alone.
    """
    groups: dict[tuple[str, str, int], list[UtilityRecord]] = {}
    ordinary: dict[tuple[str, str, int], list[UtilityRecord]] = {}
    for one in passes:
        count = one.case.n if "recipe" in one.case.condition else 0
        kind = ordinary if _ordinary(one.case) else groups
        kind.setdefault((one.data, data_name(one.case), count), []).append(one)
    for (data, name, _), group in groups.items():
        agreeing, others = _agreeing(group)
        beside = [one for key, some in ordinary.items() if key[0] == data for one in some]
        fitting, _ = _agreeing(_fitting(beside, name, group[0]))
        if agreeing:
            yield [*fitting, *agreeing]
        yield from ([one] for one in others)
    if not groups:
        for group in ordinary.values():
            agreeing, others = _agreeing(group)
            yield from ([one] for one in others)
            if agreeing:
                yield agreeing


def _agreeing(
    passes: Sequence[UtilityRecord],
) -> tuple[list[UtilityRecord], list[UtilityRecord]]:
    """Split off passes of one condition and number that were shown different pictures."""
    shown: dict[Hashable, set[str]] = {}
    for one in passes:
        shown.setdefault((_condition(one.case), one.case.n), set()).add(one.case.images_sha256)
    agree = [len(shown[_condition(one.case), one.case.n]) == 1 for one in passes]
    pairs = list(zip(passes, agree, strict=True))
    return [one for one, yes in pairs if yes], [one for one, yes in pairs if not yes]


def _whole(made: Sequence[Task]) -> list[Task]:
    """Leave out tasks all of whose passes are in another one of the same name."""
    facts = [(t.dataset, frozenset(one.case.key for one in t.passes)) for t in made]
    return [
        task
        for i, (task, (name, keys)) in enumerate(zip(made, facts, strict=True))
        if not any(
            name == other and (keys < theirs or (keys == theirs and j < i))
            for j, (other, theirs) in enumerate(facts)
        )
    ]


def _fitting(
    ordinary: Sequence[UtilityRecord], name: str, like: UtilityRecord
) -> list[UtilityRecord]:
    """Return the ordinary pictures that go with others: of one name, and for corruptions as many.

    Where several data sets could be meant, none is.
    """
    count = like.case.n
    found = [o for o in ordinary if "recipe" not in o.case.condition or o.case.n == count]
    own = [o for o in found if data_name(o.case) == name]
    found = own or found
    return found if len({data_name(one.case) for one in found}) == 1 else []


def _best(passes: Sequence[UtilityRecord]) -> list[UtilityRecord]:
    """Return the passes of the newest version and of one seed, one per condition."""
    ranked: dict[tuple[int, int], dict[str, UtilityRecord]] = {}
    for one in passes:
        rank = (one.case.evaluation.version, -one.case.seed)
        ranked.setdefault(rank, {})[_condition(one.case)] = one
    return list(
        ranked[max(ranked, key=lambda rank: (rank[0], len(ranked[rank]), rank[1]))].values()
    )


def _largest(made: Sequence[Task]) -> list[Task]:
    """Keep the most pictures of each name."""
    most: dict[str, int] = {}
    for one in made:
        most[one.dataset] = max(most.get(one.dataset, 0), one.n)
    return [one for one in made if one.n == most[one.dataset]]


def _ordinary(case: UtilityCase) -> bool:
    return any(case.condition.get(key) == value for key, value in ORDINARY)


def _condition(case: UtilityCase) -> str:
    return str(sorted(case.condition.items()))


def _who(one: UtilityRecord) -> Hashable:
    case = one.case
    return case.model.label, case.weights, case.weights_sha256, case.seed


def _question(record: UtilityRecord) -> Hashable:
    """Return what a newer record of the same would answer again."""
    case = record.case
    asked = (case.evaluation.label, _condition(case), case.dataset.label, record.data)
    return (*asked, _who(record), case.n)
