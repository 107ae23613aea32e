"""The verdict of an audit, in a sentence, and what would change it, in measured figures."""

from dataclasses import dataclass
from typing import Literal

from privbench.observation import Observation

Kind = Literal["exact", "leaks", "head", "open"]
NEAR = 0.02
"""Share of a flat picture's distance below which a candidate explains the update."""
VISIBLE = 3.0
"""Decibels above a flat picture from which on a picture was found; set by reason."""
PAGE = "docs/findings.md"


@dataclass(frozen=True)
class Evidence:
    """What the verdict rests on."""

    pictures: int
    proved: bool
    head_only: bool
    distance: float
    """Of the best candidate's gradient to the update, relative and squared."""
    flat: float
    """Of the mean color's."""
    psnr: float | None = None
    """Mean in dB, where the truth was given."""
    floor: float | None = None
    """Of the mean color, in dB."""


def judge(found: Evidence) -> tuple[Kind, str]:
    """Return the verdict and its sentence."""
    count = f"{found.pictures} picture{'s' if found.pictures > 1 else ''}"
    measured = ""
    if found.psnr is not None and found.floor is not None:
        measured = f" Measured: {found.psnr:.1f} dB, a flat picture has {found.floor:.1f}."
    if found.proved:
        proved = f"Exact: {found.pictures} of {count}, proved without the original."
        return "exact", proved + measured
    seen = found.psnr is not None and found.psnr > (found.floor or 0.0) + VISIBLE
    if seen:
        return "leaks", f"Leaks: what came back is nearer to the original than chance.{measured}"
    if found.head_only:
        return "head", (
            "No attack here gets at it, because only the head was trained; that rests on a "
            "backbone that stays frozen in all rounds. The label, and what the head saw of a "
            f"picture, are in the update.{measured}"
        )
    share = found.distance / found.flat if found.flat else 1.0
    if share < NEAR and found.psnr is None:
        return "leaks", (
            f"Leaks: the best candidate leaves {100 * share:.2g} % of what a flat picture leaves "
            "of the update unexplained, so look at it; no proof."
        )
    return "open", (
        "No attack here gets at it at this budget; that is what was found, not a proof of "
        f"safety.{measured}"
    )


def advice(seen: Observation, withheld_positions: bool) -> tuple[str, ...]:
    """Return what would hide more, or would not, each with its figure and where it stands."""
    vit = seen.model.vit
    room = (vit.width - 1) // vit.tokens
    batch = (
        f"A batch of more than {room} has more tokens than linear algebra tells apart in this model"
        if room
        else "A batch of any size has more tokens than linear algebra tells apart in this model"
    )
    known = (
        "A bfloat16 gradient leaves 47.6 dB of a picture instead of 100, 1 % noise 34.2 dB, "
        f"pruning 90 % 12.5 dB, where a flat picture has 11.8 (`vit_vanilla`, auto: {PAGE}).",
        f"{batch}; below that a batch hides little: of batches of 8, 21 of 24 pictures come back "
        f"exact (`vit_patch8`, peel: {PAGE}).",
    )
    if withheld_positions:
        return known
    plain = (
        "Withholding the position gradient alone hides nothing on a plain ViT: 100 dB with it and "
        f"without (`vit_vanilla`, auto: {PAGE})."
    )
    return (plain, *known)
