"""What forbids to take a row of the leaderboard for evidence."""

from collections.abc import Mapping, Sequence
from typing import Any

from privbench.records.case import Record
from privbench.reports.leaderboard import VOID, void

FEW = 24
"""Pictures below which a row is flagged; eight of them can hardly make any difference significant
once it is corrected for a table."""
AMBIGUOUS = "The objective is at the noise floor but members disagree"
"""How the note of an ensemble begins whose members explain one update by several pictures."""
OPEN = "No member explains the update down to its noise"
"""How that of one begins none of whose members explains it."""

FLAGS = {
    "unranked": "no attack that is made for its defense has run on it; the list of defenses "
    "names some",
    "void": "the attack fails on the undefended control, too, so its failure shows nothing",
    "no control": "the undefended victim was not attacked alike, so nobody knows whether it works",
    "ambiguous": "several different pictures explain the update; believe none of them",
    "open": "on most pictures no answer explains the update, so a stronger attack may find more",
    "at chance": "the victim's accuracy is not above guessing, so it defends nothing of use",
    "few pictures": f"fewer than {FEW}, so that hardly any difference is significant",
}
"""Flags and what they mean, the gravest first."""

NO_EVIDENCE = {"unranked", "void", "no control", "ambiguous"}
"""Flags of rows whose low leak shows nothing, so that no front and no finding may have them."""


def evident(row: Mapping[str, Any]) -> bool:
    """Whether a row's low leak could be taken for a defense's merit."""
    return not NO_EVIDENCE & set(str(row.get("flags", "")).split(", "))


def flags(
    row: dict[str, Any],
    group: Sequence[Record],
    unfaced: str | None = None,
    more: Sequence[str] = (),
) -> tuple[str, str]:
    """Return the flags of a row, and all notes of its records; and what nobody has run there."""
    notes = [record.error for record in group if record.error]
    notes += [text for record in group if record.status == "done" for text in record.warnings]
    control, failing = row.get("psnr_control"), void(row)
    classes = group[0].case.model.settings.get("num_classes")
    chance = 100 / classes if isinstance(classes, int) and classes > 0 else 0.0
    lowest = row.get("top1_lo")
    raised = {
        "unranked": unfaced is not None,
        "void": failing,
        "no control": bool(row["n"]) and control is None,
        "ambiguous": any(_told(record, AMBIGUOUS) for record in group),
        "open": 2 * sum(_told(record, OPEN) for record in group) > len(group),
        "at chance": lowest is not None and lowest <= chance,
        "few pictures": 0 < row["n"] < FEW,
    }
    found = [*dict.fromkeys([*notes, *more]), *([VOID] * failing), *([unfaced] if unfaced else [])]
    return ", ".join(name for name in FLAGS if raised[name]), " | ".join(found)


def _told(record: Record, note: str) -> bool:
    """Whether one of an attack's warnings begins like this."""
    return any(text.startswith(note) for text in record.warnings)
