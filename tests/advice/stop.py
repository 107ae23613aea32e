"""How each text with advice comes up, and how a user would follow it.

A stop's command is what is typed; TMP stands for a folder with pictures and files.
"""

from dataclasses import dataclass, field

MEAN = "run --attack mean --model vit_vanilla --images 1 --set model.depth=1"
EVAL = "eval --model vit_vanilla --images 2 --set model.depth=1"
NOTED = (0, 1)
TRAIN = (
    "train --model vit_vanilla --dataset folder --data-root TMP/classes --epochs 1 "
    "--set model.depth=1 --set model.num_classes=2 --set train.batch_size=2"
)
MATCHING = "run --attack gradinv --set attack.steps=1 --model vit_vanilla --set model.depth=1 "
MATCHING += "--images 1"


PRIOR = (
    "run --attack gradinversion --model vit_vanilla --images 1 --set model.depth=1 "
    "--set attack.steps=1 --set attack.seeds=1 --set attack.prior="
)


@dataclass(frozen=True)
class Stop:
    """A message and the advice in it."""

    answer: str
    """A part of the text in the source, by which the site is known."""
    command: str
    advice: str = r"--[a-z][\w-]* [^\s`,]+"
    """Regular expression: the last of its matches in the message is what is typed, or what is
    left out where it names no value."""
    gaps: dict[str, str] = field(default_factory=dict)
    """What stands for PATH, FILE or N in the advice."""
    choice: str = ""
    """What is chosen from the list that the advice prints, or from what it describes."""
    also: str = ""
    """What the message asks for besides, or what makes an advised command short."""
    drop: str = ""
    """What the choice stands in the place of."""
    next: str = ""
    """Another message that the advice leads to, where it cannot lead to the end here."""
    ends: tuple[int, ...] = (2,)
    """Exit codes of the message: 0 of a note, NOTED where a case failed."""
    before: str = ""
    """What is typed first."""
    slow: bool = False


CHOOSE = r"privbench list \w+"
"""Advice to choose another one of what a list prints."""
