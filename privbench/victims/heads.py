"""Heads of checkpoints: some of their classes, in an order, or a new one."""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from privbench.errors import BadSetting
from privbench.vit import ViT

HEADS = ("backbone.head.", "backbone.head_dist.")
FORM = re.compile(r"(\d+)(?::(\d+))?")
MOST = 1_000_000
"""Classes that a head may have."""


def pick(found: Mapping[str, Tensor], vit: ViT, columns: str) -> dict[str, Tensor]:
    """Return weights whose heads know the model's classes only; raises BadSetting.

    Columns are numbers and ranges from:to (without the last), by commas, or a text file of them.
    """
    chosen = _numbers(columns)
    if len(chosen) != vit.classes:
        raise BadSetting(
            f"--columns names {len(chosen)} classes, and the model has {vit.classes}. Name one for "
            f"each class, or add `--set model.num_classes={len(chosen)}`."
        )
    picked = dict(found)
    for key, tensor in found.items():
        if key.startswith(HEADS):
            if max(chosen) >= len(tensor):
                raise BadSetting(
                    f"--columns names {max(chosen)}, and the checkpoint's head knows classes 0 to "
                    f"{len(tensor) - 1}. Name these only."
                )
            picked[key] = tensor[chosen]
    return picked


def draw(found: Mapping[str, Tensor], vit: ViT) -> dict[str, Tensor]:
    """Return weights with the model's own heads, as they were drawn."""
    without = {key: tensor for key, tensor in found.items() if not key.startswith(HEADS)}
    return without | {k: t for k, t in vit.state_dict().items() if k.startswith(HEADS)}


def _numbers(columns: str) -> list[int]:
    path = Path(columns)
    words = re.split(r"[\s,]+", columns.strip())
    if not all(FORM.fullmatch(word) for word in words) and path.is_file():
        try:
            words = re.split(r"[\s,]+", path.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError):
            words = [""]
    found: list[int] = []
    for word in words:
        match = FORM.fullmatch(word)
        if match is None:
            raise BadSetting(
                f"--columns reads numbers and ranges such as 1:1001, by commas, or a text file of "
                f"them; not '{word or columns}'."
            )
        first = int(match[1])
        last = int(match[2]) if match[2] else first + 1
        if not first < last <= MOST:
            raise BadSetting(f"--columns: {word} is no range of classes. Write it as 1:1001.")
        found += range(first, last)
    return found
