"""What all commands share: options of one name, and a terminal that prints names as they are."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console


def place(word: str | Path) -> Path:
    """Turn a word of the command line, or a default, into a path; raises BadParameter if empty.

    A path without letters would be the folder that the user stands in.
    """
    if not str(word).strip():
        raise typer.BadParameter(
            "it is empty, as a variable without a value is. Name a folder or file, or leave it out."
        )
    return Path(word)


Names = list[str] | None
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Out = Annotated[Path, typer.Option("--out", help="Results folder.", metavar="DIR", parser=place)]
Weights = Annotated[
    str | None,
    typer.Option(
        help="init, trained, pretrained (timm's), or a safetensors file. "
        "\\[default: trained where they come along, else init]",
        metavar="NAME",
    ),
]
SuiteFile = Annotated[
    str | None,
    typer.Option("--suite", help="A bundled suite or a YAML file.", metavar="FILE"),
]
On = Annotated[
    list[str] | None,
    typer.Option("--defense", help="On the shared update; a+b stacks two. \\[default: none]"),
]
OfDefense = Annotated[
    Names,
    typer.Option(
        "--set", help="defense.sigma=0.1; also dataset., model. Repeat it.", metavar="KEY=VALUE"
    ),
]
Pictures = Annotated[
    str | None, typer.Option("--dataset", help="Pictures. \\[default: the victim's own]")
]
Splits = Annotated[
    Path | None,
    typer.Option(
        "--data-root", help="Folder that holds train and test.", metavar="PATH", parser=place
    ),
]
Private = Annotated[
    str | None,
    typer.Option("--dataset", help="Private pictures. \\[default: the victim's own]"),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root", help="Folder that holds the data set.", metavar="PATH", parser=place
    ),
]
Chosen = Annotated[
    str | None,
    typer.Option("--images", help="How many, or which: 3,5,7. \\[default: 8]", metavar="N"),
]

FAILED = 1
"""Exit code of a command that ran and has no number to show."""
WIDTH = 160
"""Columns of a pipe or a log, which have no width of their own; eighty would break the table."""


def console(*, error: bool = False) -> "Console":
    """Return a console; brackets and colons in names and messages are no markup."""
    from rich.console import Console

    screen = Console(stderr=error, markup=False, emoji=False)
    if not screen.is_terminal:
        screen.width = WIDTH
    return screen


def split_names(given: Names) -> list[str]:
    """Return names given one by one or separated by commas, each once."""
    return list(dict.fromkeys(every_name(given)))


def every_name(given: Names) -> list[str]:
    """Return names given one by one or separated by commas, as often as they were given."""
    found = [one.strip() for text in given or () for one in text.split(",")]
    return [name for name in found if name]
