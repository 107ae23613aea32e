"""The command line's bound: how much any attack could know."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from privbench.cli.options import (
    Chosen,
    DataRoot,
    Device,
    Names,
    OfDefense,
    On,
    Out,
    Private,
    SuiteFile,
    Weights,
    console,
)
from privbench.cli.sheet import print_notes, sheet

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
    set_: OfDefense = None,
    weights: Weights = None,
    device: Device = "auto",
    out: Out = Path("results"),
    suite: SuiteFile = None,
) -> None:
    """Compute a local Gaussian ceiling: the best PSNR that any attack could expect.

    About four minutes a picture of 32 px on one core. The same command goes on where it was
    stopped.
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
    print_notes(screen, (text for one in records for text in one.warnings))
    screen.print(f"Table of all ceilings: {out / 'bounds.csv'}", soft_wrap=True)


def _board(table: "pd.DataFrame") -> "Table":
    from privbench.bounds.formal import AMONG

    noisy = bool(table["named"].notna().any())
    formal = (f"named of {AMONG}, %", "no prior, dB", "any network, dB") if noisy else ()
    return sheet(
        "Best PSNR that an attack could expect: local, Gaussian",
        ("n", "ceiling, dB (95 %)", "exact", "without update, dB", *formal, "s"),
        ((row, _figures(row, noisy)) for row in table.to_dict("records")),
    )


def _figures(row: Mapping[Any, Any], noisy: bool) -> list[str]:
    mean, low, high = (row[f"ceiling{end}"] for end in ("", "_lo", "_hi"))
    inside = f" ({low:.1f} to {high:.1f})" if low == low else ""
    return [
        str(row["n"]),
        f"{mean:.1f}{inside}" if mean == mean else "not resolved",
        str(row["exact"] or ""),
        f"{row['blind']:.1f}",
        *(_formal(row) if noisy else ()),
        f"{row['seconds']:.1f}",
    ]


def _formal(row: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return what holds for any network; blank where nothing does."""
    if row["named"] != row["named"]:
        return ("", "", "")
    return (f"{100 * row['named']:.1f}", f"{row['unaided']:.1f}", f"{row['informed']:.1f}")
