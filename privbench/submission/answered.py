"""Whether a record, its stored answers and the picture beside it belong together."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from privbench.patches import cut
from privbench.records import picture
from privbench.records.answers import Answers, Pictures
from privbench.records.case import Record
from privbench.submission.numbers import CERTIFIED
from privbench.threat import Images

WHOLE = 50.0
"""Decibels that a proved answer has at least: about half a step of 8 bits."""

Fault = tuple[str, str]


def answer_faults(record: Record, answers: Answers, *, inner: bool) -> Iterator[Fault]:
    """Yield where stored answers are none of the record's, or another member's than it says.

    `inner` says that the defense moves pixels inside patches, so that an attack may, too.
    """
    batch = (len(record.case.images), 3, *answers.images.shape[-1:] * 2)
    for name, images in {"the answer": answers.images, **answers.members}.items():
        inside = images.shape == batch and np.isfinite(images).all()
        if not inside or images.min() < 0 or images.max() > 1:
            yield "answer", f"stores {name} as no pictures of its batch, in 0 to 1."
            return
    if answers.members.keys() != record.members.keys():
        yield "answer", "stores answers of other members than it has scores of."
    elif record.members and not record.report.get("moved"):
        same = [n for n, one in answers.members.items() if np.array_equal(one, answers.images)]
        if record.choice not in same:
            what = f"that of {same[0]}" if same else "none of its members'"
            yield "selection", f"names {record.choice} as its choice, and its answer is {what}."
    elif record.choice in answers.members and not _rearranged(
        answers.members[record.choice], answers.images, answers.patch, inner=inner
    ):
        yield (
            "selection",
            f"names {record.choice} as its choice, and its answer has other patches than that "
            "member found, not only in another order.",
        )
    if answers.mask is not None or record.masked is not None:
        found = () if answers.mask is None else tuple(answers.mask.sum(1).tolist())
        if found != record.masked:
            yield "answer", f"counts {record.masked} treated patches, and its mask has {found}."


def _rearranged(one: Pictures, other: Pictures, patch: int, *, inner: bool) -> bool:
    """Say whether two answers are the same patches in some order, picture by picture.

    Where pixels inside patches may have changed places, too, whether patches have the same ones.
    """
    first, second = (cut(torch.from_numpy(images), patch) for images in (one, other))
    if inner:
        first, second = (a.unflatten(2, (3, -1)).sort(3).values.flatten(2) for a in (first, second))
    return all(
        sorted(map(tuple, a.tolist())) == sorted(map(tuple, b.tolist()))
        for a, b in zip(first, second, strict=True)
    )


def proof_faults(record: Record, answers: Answers, truth: Images) -> Iterator[Fault]:
    """Yield that an answer counts as proved, and is not what the network was shown."""
    if record.report.get(CERTIFIED) != 1.0:
        return
    entered = truth.numpy() if answers.entered is None else answers.entered
    found = answers.members.get(record.choice, answers.images)
    shown = -10 * np.log10(np.maximum(np.square(found - entered).mean((1, 2, 3)), 1e-30))
    placed = record.scores.get("psnr_matched", record.scores["psnr"])
    best = [max(a, b or 0.0) for a, b in zip(shown.tolist(), placed, strict=False)]
    if min(best) < WHOLE:
        yield (
            "answer",
            f"counts as proved, and is not what the network was shown: {min(best):.1f} dB.",
        )


def picture_faults(path: Path, answers: Answers, truth: Images) -> Iterator[Fault]:
    """Yield that the picture beside a record does not show its answer."""
    private = truth.cpu().numpy()
    fed = private if answers.entered is None else answers.entered
    try:
        shown = picture.pixels(path.read_bytes())
    except (OSError, ValueError):
        yield "answer", "has no picture beside it, or one that cannot be read."
        return
    if not np.array_equal(shown, picture.pixels(picture.draw(private, fed, answers.images))):
        yield "answer", "has a picture beside it that shows something else than its answer."
