"""What the records found, in three sentences that are computed from them."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from privbench.records.case import UNDEFENDED
from privbench.reports.board import LEAK, Section
from privbench.reports.flags import evident
from privbench.reports.leaderboard import LEAKS
from privbench.reports.ranks import Rank

SAME = 1e-6
"""Decibels."""
Row = dict[str, Any]


def finding(section: Section, matching: Collection[str]) -> list[str]:
    """Return three sentences on one section: undefended, defended, and by gradient matching.

    `matching` names the attacks that match gradients. What no record shows is said to be unknown.
    """
    scored = [row for row in section.rows if LEAK in row]
    answered = [row for row in scored if not _is_floor(row)]
    undefended = _of_main_control(answered)
    defended = [row for row in answered if not _is_control(row)]
    return [
        _undefended(undefended or _of_main_control(scored)),
        _defended(defended),
        _matching([row for row in undefended if row["attack_name"] in matching]),
    ]


def _of_main_control(rows: Sequence[Row]) -> list[Row]:
    """Return rows of the undefended victim that most rows are compared with."""
    counts = Counter(row["control"] for row in rows)
    controls = [row for row in rows if _is_control(row)]
    main = max((row["model"] for row in controls), key=lambda name: counts[name], default="")
    return [row for row in controls if row["model"] == main]


def _is_control(row: Row) -> bool:
    return row["model"] == row["control"] and row["defense"] == UNDEFENDED


def _is_floor(row: Row) -> bool:
    """Whether an attack hands in the flat picture, and so is none."""
    return abs(row[LEAK] - row["psnr_floor"]) < SAME


def _undefended(rows: Sequence[Row]) -> str:
    if not rows:
        return (
            "No undefended victim is among these records, so nothing shows whether the attacks "
            "work at all."
        )
    best = max(rows, key=lambda row: (row[LEAK], row["n"]))
    floor = f"a flat picture in the mean color has {best['psnr_floor']:.1f} dB"
    if best[LEAK] < best["psnr_floor"] + LEAKS:
        return (
            f"No attack here brings anything back even from {best['model']} without any defense: "
            f"the best of them, {best['attack']}, reaches {_leak(best)}, and {floor}."
        )
    return (
        f"From the undefended {best['model']}, {best['attack']} brings pictures back at "
        f"{_leak(best)}, where {floor}."
    )


def _defended(rows: Sequence[Row]) -> str:
    strongest: dict[tuple[str, str], Row] = {}
    for row in rows:
        victim = row["model"], row["defense"]
        if victim not in strongest or row[LEAK] > strongest[victim][LEAK]:
            strongest[victim] = row
    known = sorted(
        strongest.values(), key=lambda row: (-row[LEAK], -row["n"], row["model"], row["defense"])
    )
    if not known:
        return "No defended victim is among these records."
    if len(known) == 1:
        return f"{_named(known[0])} leaves {_changed(known[0])}."
    most, shown = known[0], f"{known[0][LEAK]:.1f}"
    alike = sum(f"{row[LEAK]:.1f}" == shown for row in known[1:])
    hide = f"and {alike} more hide least and leave" if alike else "hides least and leaves"
    text = f"Of {len(known)} defended victims, {_named(most)} {hide} {_changed(most)}"
    counted = [row for row in known if evident(row)]
    least = counted[-1] if counted else most
    if f"{least[LEAK]:.1f}" == shown:
        return f"{text}; no other has faced an attack that is made for its defense."
    some = f"of the {len(counted)} whose rows no flag keeps from being evidence, "
    return (
        f"{text}; {some if len(counted) < len(known) else ''}{_named(least)} hides most, with "
        f"{_changed(least)}{_sharing(least, counted)}."
    )


def _sharing(least: Row, others: Sequence[Row]) -> str:
    """Say how many other victims' rows may have this one's place in the ranking."""
    mine = least.get("rank")
    ranked = (row.get("rank") for row in others if row is not least)
    same = [
        place
        for place in ranked
        if isinstance(place, Rank) and isinstance(mine, Rank)
        if place.last >= mine.first and place.first <= mine.last
    ]
    if not same:
        return ""
    return f"; {len(same)} other{'s share' if len(same) > 1 else ' shares'} its rank"


def _changed(row: Row) -> str:
    """Return the leak of a victim, its attack, and what is lost against the control."""
    text = f"{_leak(row)} to {row['attack']}"
    if row.get("psnr_matched", 0.0) > row[LEAK] + LEAKS:
        text += f", {row['psnr_matched']:.1f} dB once patches are in the order that fits best"
    if row[LEAK] < row["psnr_floor"] + LEAKS:
        text += " (no attack here beats the floor there)"
    elif "lost_lo" in row:
        ends = f"{row['lost_lo']:.1f} to {row['lost_hi']:.1f}"
        text += f" ({row['lost']:.1f} dB less than undefended on the same pictures, {ends})"
    if row.get("ceiling", 0.0) > row[LEAK] + LEAKS:
        text += f", where the ceiling for any attack is {row['ceiling']:.1f} dB"
    return text


def _matching(rows: Sequence[Row]) -> str:
    if not rows:
        return (
            "No gradient matching without a defense is among these records, so its failure "
            "elsewhere shows nothing."
        )
    best = max(rows, key=lambda row: (row[LEAK], row["n"]))
    gain = best[LEAK] - best["psnr_floor"]
    verdict = (
        "so where it fails behind a defense, that shows nothing"
        if gain < LEAKS
        else "so its failure behind a defense would show something"
    )
    return (
        f"Gradient matching ({best['attack']}) on the undefended {best['model']} reaches "
        f"{_leak(best)}, {abs(gain):.1f} dB {'above' if gain >= 0 else 'below'} the flat picture, "
        f"{verdict}."
    )


def _named(row: Row) -> str:
    defended = row["defense"] != UNDEFENDED
    return f"{row['model']} with {row['defense']}" if defended else str(row["model"])


def _leak(row: Row) -> str:
    """Return mean, interval and n; few pictures may have no interval."""
    ends = f"{row['psnr_lo']:.1f} to {row['psnr_hi']:.1f}, " if "psnr_lo" in row else ""
    return f"{row[LEAK]:.1f} dB ({ends}n = {row['n']})"
