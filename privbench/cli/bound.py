"""The command line's bound: how much any attack could know."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privbench.cli.options import Chosen, DataRoot, Names, On, Out, Private, Weights, console

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(bound)


def bound(
    model: Annotated[Names, typer.Option(help="Victims; all combinations are bounded.")] = None,
    defense: On = None,
    dataset: Private = None,
    data_root: DataRoot = None,
    images: Chosen = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the client. \\[default: 0]")] = None,
    set_: Annotated[
        Names,
        typer.Option(
            "--set",
            help="defense.sigma=0.1; also dataset., model. Repeat it.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    weights: Weights = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Out = Path("results"),
    suite: Annotated[
        str | None, typer.Option(help="A bundled suite or a YAML file.", metavar="FILE")
    ] = None,
) -> None:
    """Compute a local Gaussian ceiling: the best PSNR that any attack could expect.

    About two minutes a picture of 32 px on one core. The same command goes on where it was stopped.
    """
    screen = console()
    with screen.status("loading"):
        from privbench.bounds.plan import Request
        from privbench.bounds.run import bound as compute
        from privbench.bounds.table import bound_table
        from privbench.cli.tables import Passes
        from privbench.running.suite import single

        options = {
            "model": model,
            "defense": defense,
            "dataset": dataset,
            "data_root": data_root,
            "images": images,
            "seed": seed,
            "set": set_ or [],
            "weights": weights,
        }
        request = single(Request, options, suite)
    passes = Passes(screen, "columns")
    with passes.bar:
        records = compute(request, device, out, passes.report)
    table = bound_table(records)
    screen.print(_board(table))
    for note in dict.fromkeys(t for one in records for t in one.warnings):
        screen.print(f"Note. {note}", highlight=False, soft_wrap=True)
    screen.print(f"Table of all ceilings: {out / 'bounds.csv'}", soft_wrap=True)


def _board(table: "pd.DataFrame") -> "Table":
    from rich import box
    from rich.table import Table

    drawn = Table(
        title="Best PSNR that an attack could expect: local, Gaussian",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
    )
    for heading in ("model", "weights", "defense"):
        drawn.add_column(heading, overflow="fold", min_width=8)
    for heading in ("n", "ceiling, dB (95 %)", "exact", "without update, dB", "s"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for row in table.to_dict("records"):
        mean, low, high = (row[f"ceiling{end}"] for end in ("", "_lo", "_hi"))
        inside = f" ({low:.1f} to {high:.1f})" if low == low else ""
        drawn.add_row(
            *(str(row[key]) for key in ("model", "weights", "defense")),
            str(row["n"]),
            f"{mean:.1f}{inside}",
            str(row["exact"] or ""),
            f"{row['blind']:.1f}",
            f"{row['seconds']:.1f}",
        )
    return drawn
