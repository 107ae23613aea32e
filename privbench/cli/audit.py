"""The command line's audit: one update of a federation, and what it gives away."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from privbench.cli.options import Device, Names, console, place

if TYPE_CHECKING:
    from privbench.auditing.audit import Audit

ABOVE = 3
"""Exit code of an audit whose leak is above --fail-above."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(audit)


def audit(
    model: Annotated[str, typer.Option(help="A victim's name, timm:NAME, or FILE.py:FACTORY.")],
    before: Annotated[
        str | None, typer.Option(help="Weights that the client began with.", metavar="FILE")
    ] = None,
    after: Annotated[
        str | None, typer.Option(help="Weights that the client sent.", metavar="FILE")
    ] = None,
    gradient: Annotated[
        str | None, typer.Option(help="What the client sent, if a gradient.", metavar="FILE")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="The client's learning rate.")] = None,
    steps: Annotated[int, typer.Option(help="Steps that the client took.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Pictures of a step.", metavar="B")] = 1,
    optimizer: Annotated[
        Literal["sgd", "adamw"], typer.Option(help="That the client stepped with.")
    ] = "sgd",
    noise: Annotated[
        float,
        typer.Option(help="Deviation of what the client added to each weight.", metavar="SIGMA"),
    ] = 0.0,
    truth: Annotated[
        Path | None,
        typer.Option(help="Folder with the client's pictures.", metavar="PATH", parser=place),
    ] = None,
    attack: Annotated[str, typer.Option(help="Attack, best an ensemble.")] = "auto",
    tier: Annotated[str | None, typer.Option(help="Budget of an ensemble.")] = None,
    fail_above: Annotated[
        float | None,
        typer.Option(help="Exit code 3 for a leak above so many dB, or proved.", metavar="DB"),
    ] = None,
    set_: Annotated[
        Names,
        typer.Option("--set", help="model.num_classes=10. Repeat it.", metavar="KEY=VALUE"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the attack.", min=0)] = 0,
    device: Device = "auto",
    title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of the audit.", metavar="DIR", parser=place)
    ] = Path("results/audit"),
) -> None:
    """Say what one update of a vision transformer gives away; nothing leaves this machine.

    Exit code 0, or 3 where --fail-above is reached, or 2 where nothing could be audited.
    """
    screen = console()
    with screen.status("auditing"):
        from privbench.auditing.audit import audit as conduct
        from privbench.auditing.report import save
        from privbench.victims.preset import parse_settings

        found = conduct(
            model,
            before,
            after,
            gradient=gradient,
            lr=lr,
            steps=steps,
            batch_size=batch_size,
            optimizer=optimizer,
            noise=noise,
            truth=truth,
            attack=attack,
            tier=tier,
            settings=parse_settings(set_ or [], ("model",))["model"],
            seed=seed,
            device=device,
        )
        save(found, out, title or f"What an update of {model} gives away")
    _tell(found, out)
    if fail_above is not None and found.above(fail_above):
        raise typer.Exit(ABOVE)


def _tell(found: "Audit", out: Path) -> None:
    from rich import box
    from rich.table import Table

    from privbench.auditing.report import distance

    screen = console()
    screen.print(found.sentence, soft_wrap=True, highlight=False)
    for note in found.notes:
        screen.print(f"Note: {note}", soft_wrap=True, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("attack", "needs", "had it", "distance"):
        table.add_column(heading, overflow="fold")
    for row in found.attacks:
        table.add_row(row.name, row.needs, row.had, distance(row))
    screen.print(table)
    screen.print(f"Candidates: {out / 'best.png'}, the others beside it.", soft_wrap=True)
    screen.print(f"Page: {out / 'index.html'}", soft_wrap=True)
    screen.print("What would help:")
    for one in found.advice:
        screen.print(f"- {one}", soft_wrap=True, highlight=False)
    screen.print(f"{found.seconds:.1f} s. Nothing left this machine.", highlight=False)
