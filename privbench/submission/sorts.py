"""Faults by their sort, the gravest first, so that no forgery drowns among what is only old."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from privbench.submission.faults import Fault

AGAIN = "Run these cases again, and hand in what the run writes."
OLD = "Their scores were not made again: run the cases again here, or look with what made them."


@dataclass(frozen=True)
class Sort:
    """Faults of one kind that one step removes."""

    kind: str
    begins: str
    """Of their sentences; empty for all others of the kind."""
    advice: str
    """What to do, where the sentence does not say it."""


SORTS = (
    Sort("seal", "was edited", f"The run wrote something else. {AGAIN}"),
    Sort("seal", "holds another", "Find out which one is right, and leave the other out."),
    Sort("seal", "", AGAIN),
    Sort("score", "", f"No run writes such numbers. {AGAIN}"),
    Sort("selection", "", f"An attack chooses by its own objective alone. {AGAIN}"),
    Sort("answer", "cannot", "Add the .npz files that the run left, or run these cases again."),
    Sort("answer", "has no picture", "Add the .png files, or run these cases again."),
    Sort("answer", "", AGAIN),
    Sort("pictures", "", "Look again with the right pictures, or run these cases on them."),
    Sort("weights", "", "Run these cases on weights that come along, or on a file under its name."),
    Sort("file", "", "Copy these files again from where they were made, or run the cases again."),
    Sort("schema", "", "Look with the version that wrote them, or run these cases again."),
    Sort("label", "", f"A run writes these words itself. {AGAIN}"),
    Sort("table", "", "Leave it out, or have `privbench leaderboard` write it anew."),
    Sort("component", "", "Look with the installation that made them, or run the cases again."),
    Sort("score", "lacks", ""),
    Sort("component", "has metric", ""),
    Sort("component", "ran other", OLD),
    Sort("component", "is of version", OLD),
    Sort("missing", "", "The same suite, run into the same folder, computes what is missing."),
)
"""The gravest first. A fault is of the sort that says most of how its sentence begins."""


@dataclass(frozen=True)
class Group:
    """All faults of one sort."""

    sort: Sort
    faults: Sequence[Fault]

    def __str__(self) -> str:
        """Return one line: how many there are, two of them, and what to do."""
        first, *others = self.faults
        told = f"{first.place}: {first.sentence}"
        if others:
            second = _second(first, others)
            if second.sentence == first.sentence:
                told = f"{first.place} and {second.place}: {first.sentence}"
            else:
                told += f" {second.place}: {second.sentence}"
            told = f"{self.sort.kind}, {len(self.faults):,} times{self._where()}. {told}"
        return f"{told} {self.sort.advice}".rstrip()

    def _where(self) -> str:
        places = len({one.place for one in self.faults})
        if self.sort.kind == "missing" or places == len(self.faults):
            return ""
        return f" in {places:,} file{'' if places == 1 else 's'}"


def _second(first: Fault, others: Sequence[Fault]) -> Fault:
    """Return another example: of another file, and of other words where there are some."""
    elsewhere = [one for one in others if one.place != first.place] or others
    return next((one for one in elsewhere if one.sentence != first.sentence), elsewhere[0])


def sorted_out(faults: Iterable[Fault]) -> list[Group]:
    """Return faults by their sort, the gravest first."""
    found: dict[Sort, list[Fault]] = {}
    for fault in faults:
        found.setdefault(_sort(fault), []).append(fault)
    return [Group(sort, found[sort]) for sort in SORTS if sort in found]


def _sort(fault: Fault) -> Sort:
    fits = [s for s in SORTS if s.kind == fault.kind and fault.sentence.startswith(s.begins)]
    return max(fits, key=lambda sort: len(sort.begins))
