"""The command line's check of what a paper claims."""

from pathlib import Path
from typing import Annotated

import typer

from privbench.cli.options import Out


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(claims)


def claims(
    name: Annotated[str, typer.Argument(help="A file of configs/papers, without its ending.")],
    out: Out = Path("results"),
) -> None:
    """Print what a paper claims with a verdict on each, from the tables of a results folder."""
    from privbench.reports.claims import page, read_paper
    from privbench.victims.preset import read_preset

    paper = read_paper(read_preset("papers", name), name)
    typer.echo(page(paper, out), nl=False)
