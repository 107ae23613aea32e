"""What a row owes to versions of its attack: answers that no longer count, a control of another."""

from collections.abc import Iterable, Sequence

from privbench.records.case import Record


def versions(
    group: Sequence[Record], every: Iterable[Record], control: Iterable[Record] = ()
) -> list[str]:
    """Say what older versions alone have answered, and where the control met another version.

    The group is what counts of every record of a row.
    """
    notes = []
    mine = {record.case.images_sha256 for record in group}
    if old := {record.case.images_sha256 for record in every} - mine:
        notes.append(
            f"Older versions alone have {len(old)} more cases, which do not count; the same "
            "command makes them anew."
        )
    attack = group[0].case.attack
    met = {one.case.attack.version for one in control if one.case.attack.name == attack.name}
    if others := met - {attack.version}:
        notes.append(
            f"The control was attacked by another version of {attack.name} "
            f"({', '.join(map(str, sorted(others)))}) than this row ({attack.version}): run the "
            "control anew."
        )
    return notes
