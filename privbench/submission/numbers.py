"""Whether a record's numbers can be: counts that add up, scores in range, an honest selection."""

import re
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from privbench.kind import Kind
from privbench.records.case import Record
from privbench.records.sealed import SealedRecord
from privbench.records.utility import UtilityRecord

DISTANCE, SURPRISE = "distance_", "surprise_"
"""Begin the names of a member's own objective in the report of an ensemble, and of how improbable
it is by equations that hold for any network; an ensemble may go by both."""
CERTIFIED = "certified"
"""Is 1 in that report where the answer was proved without the truth, which beats any objective."""
INFINITE = float("inf")
LONGEST = 3e9
"""Seconds of a case, 95 years."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All control characters but line feed and tabulator, which an error of somebody's may have."""
LONG = 10_000
"""Letters of one text; the longest of an error is some hundreds."""
EQUAL = 1e-6
"""Relative difference up to which two objectives are one."""

Fault = tuple[str, str]


def number_faults(record: SealedRecord[Any]) -> Iterator[Fault]:
    """Yield kind and sentence of what is impossible in a record's numbers."""
    if isinstance(record, UtilityRecord):
        yield from _utility(record)
    elif isinstance(record, Record):
        yield from _status(record)
        if record.status == "done":
            yield from _counts(record)
            yield from _ranges(record)
            yield from selection_faults(record)
    if isinstance(record, Record | UtilityRecord):
        yield from _texts(record)


def _status(record: Record) -> Iterator[Fault]:
    case = record.case
    held = case.threat.get("pictures", case.threat["batch_size"])
    held *= case.threat.get("clients", 1)
    if len(case.images) != held:
        yield (
            "score",
            f"names {len(case.images)} pictures, and its clients have {held}.",
        )
    if len(set(case.images)) != len(case.images):
        yield "score", "counts a picture twice."
    if record.status == "done":
        if not record.scores.get("psnr"):
            yield "score", "is done and has no PSNR."
        if record.error:
            yield "score", "is done and tells of an error."
    elif record.scores or record.members:
        yield "score", f"has scores although it {_was(record)}."
    elif not record.error:
        yield "score", f"{_was(record)} and does not say why."


def _texts(record: Record | UtilityRecord) -> Iterator[Fault]:
    """Yield sentences that a terminal would obey, or that nobody would read."""
    told = [*record.warnings, *record.environment, *record.environment.values()]
    if isinstance(record, Record):
        told += [record.error or "", record.choice, *record.report]
    for text in told:
        if found := CONTROL.search(text):
            yield "label", f"has the control character {found[0]!r} in a text."
            return
        if len(text) > LONG:
            yield "label", f"has a text of {len(text)} letters, {text[:20]!r} and so on."
            return


def _was(record: Record) -> str:
    return "failed" if record.status == "failed" else "was refused"


def _counts(record: Record) -> Iterator[Fault]:
    n = len(record.case.images)
    for where, scores in _all_scores(record):
        for name, values in scores.items():
            if len(values) != n:
                yield "score", f"has {len(values)} values of {name}{where} for {n} pictures."
    if record.masked is not None and len(record.masked) != n:
        yield "score", f"counts masked patches of {len(record.masked)} pictures among {n}."
    if record.label_accuracy is not None:
        found = record.label_accuracy * n
        if not (0 <= record.label_accuracy <= 1 and abs(found - round(found)) < 1e-6):
            yield "score", f"found {record.label_accuracy} of the labels of {n} pictures."
    if (record.seconds or 0) > LONGEST:
        yield "score", f"took {record.seconds:.3g} seconds, longer than there are computers."
    if record.gradient_calls < 0 or not isfinite(record.seconds or 0) or (record.seconds or 0) < 0:
        yield "score", "took less than no time or gradients."


def _ranges(record: Record) -> Iterator[Fault]:
    for where, scores in _all_scores(record):
        for name, values in scores.items():
            if any(value is None or not isfinite(value) for value in values):
                yield "score", f"has NaN or infinity for {name}{where}: null in its file."
            yield from _range(name, where, values, record.metrics.get(name, {}))


def _range(
    name: str, where: str, values: Sequence[float | None], facts: Mapping[str, Any]
) -> Iterator[Fault]:
    cap, known = facts.get("cap"), [value for value in values if value is not None]
    if not facts:
        yield "score", f"has {name}{where} and does not say what that is."
        return
    high = facts["higher_is_better"]
    if cap is not None and any(value > cap if high else value < cap for value in known):
        yield "score", f"has {name}{where} beyond its cap of {cap:g}."
    if not high and any(value < 0 for value in known):
        yield "score", f"has {name}{where} below 0, an error or a distance."


def _all_scores(record: Record) -> Iterator[tuple[str, Mapping[str, list[float | None]]]]:
    yield "", record.scores
    yield " of the mean color", record.floor
    for member, scores in record.members.items():
        yield f" of member {member}", scores


def selection_faults(record: Record) -> Iterator[Fault]:
    """Yield what shows that a member was handed in for its score and not for its objective."""
    if not record.members:
        return
    if record.choice not in record.members:
        yield "selection", f"hands in {record.choice!r}, which is none of its members."
        return
    if silent := sorted(record.members.keys() - _reported(record, DISTANCE).keys()):
        yield (
            "selection",
            f"does not say how near its member {silent[0]} came, so nobody knows by what its "
            "answer was chosen.",
        )
        return
    if record.report.get(CERTIFIED) not in (None, 0.0, 1.0):
        yield "selection", "is proved in part: an answer is proved (1) or not (0)."
    if record.report.get(CERTIFIED) == 1.0:
        return
    near, odd = (_reported(record, kind) for kind in (DISTANCE, SURPRISE))
    chosen = near[record.choice]
    better = [
        name
        for name in near
        if chosen > near[name] * (1 + EQUAL)
        and (not odd or odd.get(name, INFINITE) < odd.get(record.choice, INFINITE))
    ]
    if better:
        nearest = min(better, key=lambda name: near[name])
        yield (
            "selection",
            f"hands in {record.choice}, whose objective is {chosen:.3g}, where {nearest} reached "
            f"{near[nearest]:.3g}: a selection that no attacker makes, by the truth.",
        )
    own = INFINITE if record.objective is None else record.objective
    if own != chosen and not (isfinite(chosen) and abs(own - chosen) <= EQUAL * abs(chosen)):
        yield "selection", f"has objective {own:.3g}, and its choice reached {chosen:.3g}."


def _reported(record: Record, kind: str) -> dict[str, float]:
    """Return by member what an ensemble reports of each; null is infinity."""
    return {
        name.removeprefix(kind): INFINITE if value is None else value
        for name, value in record.report.items()
        if name.startswith(kind)
    }


def _utility(record: UtilityRecord) -> Iterator[Fault]:
    for name, values in record.values.items():
        known = {value for value in values if value is not None}
        allowed = {Kind.SHARE: 1.0, Kind.PERCENT: 100.0}.get(record.kind(name))
        if allowed is not None and not known <= {0.0, allowed}:
            yield "score", f"has {name} other than 0 and {allowed:g}, which is of whole pictures."
        if values and not known:
            yield "score", f"has no number at all for {name}."
    if not isfinite(record.seconds) or record.seconds < 0:
        yield "score", "took less than no time."
