"""The command line's accountant: what differential privacy a defense's noise gives."""

from math import isinf
from typing import Annotated

import typer

from privbench.cli.options import FAILED, Names, console, split_names

SECTIONS = ("defense", "model")
"""Of --set."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(epsilon)


def epsilon(
    defense: Annotated[Names, typer.Option(help="On the shared update; a+b stacks two.")] = None,
    model: Annotated[str, typer.Option(help="Victim, whose size counts.")] = "vit_vanilla",
    steps: Annotated[int, typer.Option(help="Updates that a client shares.", min=1)] = 1,
    sample_rate: Annotated[
        float, typer.Option(help="Chance that an example takes part in a step.", metavar="Q")
    ] = 1.0,
    delta: Annotated[float, typer.Option(help="Chance that the guarantee fails.")] = 1e-5,
    set_: Annotated[
        Names,
        typer.Option("--set", help="defense.noise_multiplier=2. Repeat it.", metavar="KEY=VALUE"),
    ] = None,
) -> None:
    """Print the epsilon that a defense's noise gives, beside the one that its settings claim.

    Exit code 1 where no defense claims any.
    """
    import torch
    from rich import box
    from rich.table import Table

    from privbench.accounting import check_delta, sampled_epsilon
    from privbench.component import find, make
    from privbench.defense import Defense
    from privbench.running.product import distribute
    from privbench.stack import Stack
    from privbench.victims.load import load
    from privbench.victims.preset import parse_settings

    check_delta(delta)
    given = parse_settings(set_ or [], SECTIONS)
    rows = split_names(defense) or ["none"]
    parts = [name.strip() for row in rows for name in row.split("+")]
    known = {name: find(Defense, name).setting_names() for name in parts}
    settings = distribute("defense", given["defense"], known)
    victim = load(model, given["model"], (), "init", torch.device("cpu"))
    entries = sum(one.numel() for one in victim.model.vit.trained().values())
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("defense", "protects", "claimed", "one update", f"{steps} updates"):
        table.add_column(heading)
    found = 0
    for name in rows:
        made = [make(Defense, n.strip(), settings[n.strip()]) for n in name.split("+")]
        one = Stack(parts=tuple(made)).privacy(entries, delta)
        if one is None:
            table.add_row(name, "-", "-", "-", "-")
            continue
        found += 1
        whole = None
        if one.noise is not None:
            whole = sampled_epsilon(one.noise, sample_rate, steps, delta)
        elif sample_rate == 1:
            whole = steps * one.epsilon
        claim = "-" if one.claimed is None else f"{one.claimed:g}"
        table.add_row(name, one.protects, claim, _number(one.epsilon), _number(whole))
    screen = console()
    screen.print(table)
    screen.print(f"At delta {delta:g}, for {entries} shared entries; none means no guarantee.")
    if not found:
        raise typer.Exit(FAILED)


def _number(epsilon: float | None) -> str:
    """Return an epsilon in words; a dash where it was not computed."""
    if epsilon is None:
        return "- (install privbench[dp])"
    return "none" if isinf(epsilon) else f"{epsilon:.3g}"
