"""The command line's utility: measure models, compare them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privbench.cli.options import DataRoot, Device, Names, Out, Weights, console, place, split_names

if TYPE_CHECKING:
    from rich.console import Console

    from privbench.records.utility import UtilityRecord

Folder = Path | None
MODELS = "Victims, timm:NAME, or FILE.py:FACTORY; repeat it, or separate by commas."
RELEASED = "Released data"


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("eval")(eval_)
    app.command()(compare)


def _folder(flag: str, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        flag, help=text, metavar="PATH", parser=place, rich_help_panel=RELEASED
    )
    return option


def eval_(
    model: Annotated[list[str], typer.Option(help=MODELS)],
    eval_: Annotated[
        Names,
        typer.Option(
            "--eval",
            help="See privbench list evals. \\[default: accuracy, shuffled, consistency]",
            metavar="NAME",
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Labelled pictures. \\[default: the model's own]")
    ] = None,
    data_root: DataRoot = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also corrupt these pictures.")
    ] = False,
    imagenet: Annotated[
        Folder, _folder("--imagenet", "Short for --dataset imagenet --data-root PATH.")
    ] = None,
    imagenet_c: Annotated[Folder, _folder("--imagenet-c", "15 corruptions, 5 severities.")] = None,
    imagenet_a: Annotated[Folder, _folder("--imagenet-a", "Adversarial by nature.")] = None,
    imagenet_o: Annotated[Folder, _folder("--imagenet-o", "Unknown classes.")] = None,
    imagenet_r: Annotated[Folder, _folder("--imagenet-r", "Renditions.")] = None,
    imagenet_sketch: Annotated[Folder, _folder("--imagenet-sketch", "Drawings.")] = None,
    imagenet_v2: Annotated[Folder, _folder("--imagenet-v2", "A second test set.")] = None,
    cifar10_c: Annotated[Folder, _folder("--cifar10-c", "Arrays for 32 px.")] = None,
    cifar100: Annotated[Folder, _folder("--cifar100", "Unknown classes for 32 px.")] = None,
    svhn: Annotated[Folder, _folder("--svhn", "House numbers for 32 px.")] = None,
    images: Annotated[
        int | None, typer.Option(help="A fixed part of so many. \\[default: all]", metavar="N")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of masks, permutations, corruptions.", min=0)] = 0,
    set_: Annotated[
        Names,
        typer.Option(
            "--set", help="eval.ratios=[0.5]; also model., dataset. Repeat it.", metavar="KEY=VALUE"
        ),
    ] = None,
    weights: Weights = None,
    device: Device = "auto",
    out: Out = Path("results"),
) -> None:
    """Measure accuracy, consistency and robustness; write records and tables.

    The same command goes on where it was stopped.
    """
    screen = console()
    with screen.status("loading"):
        from privbench.cli.tables import Passes
        from privbench.errors import BadSetting
        from privbench.utility.plan import Request
        from privbench.utility.run import evaluate

        if imagenet and (dataset not in (None, "imagenet") or data_root):
            raise BadSetting(
                "--imagenet PATH says --dataset and --data-root already. Leave these out."
            )
        given = {
            "imagenet": imagenet,
            "imagenet_c": imagenet_c,
            "imagenet_a": imagenet_a,
            "imagenet_o": imagenet_o,
            "imagenet_r": imagenet_r,
            "imagenet_sketch": imagenet_sketch,
            "imagenet_v2": imagenet_v2,
            "cifar10_c": cifar10_c,
            "cifar100": cifar100,
            "svhn": svhn,
        }
        request = Request(
            models=split_names(model),
            evals=split_names(eval_),
            dataset="imagenet" if imagenet else dataset,
            data_root=data_root,
            assignments=set_ or [],
            images=images,
            seed=seed,
            weights=weights,
            robustness=robustness,
            roots={name: path for name, path in given.items() if path is not None},
        )
    passes = Passes(screen)
    with passes.bar:
        records = evaluate(request, device, out, passes.report)
    _print_results(screen, records, out)


def _print_results(screen: "Console", records: list["UtilityRecord"], out: Path) -> None:
    """Print tables, draw figures, and say where all of it is."""
    from privbench.cli.corruptions import corruption_boards
    from privbench.cli.tables import robustness_board, utility_board
    from privbench.records.store import write
    from privbench.reports.severity_figure import draw as draw_severity
    from privbench.reports.shuffled_figure import draw
    from privbench.utility.robustness import robustness_table
    from privbench.utility.table import utility_table

    table = utility_table(records)
    if len(table):
        screen.print(utility_board(table))
        screen.print(f"Table of all results: {out / 'accuracy.csv'}", soft_wrap=True)
        if (picture := draw(table)) is not None:
            write(out / "shuffled.png", picture)
            screen.print(f"Figure: {out / 'shuffled.png'}", soft_wrap=True)
    robust = robustness_table(records)
    if len(robust):
        screen.print(robustness_board(robust))
        screen.print(f"Table of all results: {out / 'robustness.csv'}", soft_wrap=True)
    for board in corruption_boards(records):
        screen.print(board)
    if any("corruption" in one.case.condition for one in records):
        screen.print(
            f"Errors by corruption and severity: {out / 'corruptions.csv'}", soft_wrap=True
        )
    for name, picture in draw_severity(records).items():
        write(out / f"{name}.png", picture)
        screen.print(f"Figure: {out / f'{name}.png'}", soft_wrap=True)
    for warning in sorted({text for one in records for text in one.warnings}):
        screen.print(f"Note: {warning}", soft_wrap=True)


def compare(
    first: Annotated[str, typer.Argument(help="A model as accuracy.csv names it.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    weights: Annotated[
        str | None,
        typer.Option(help="Where both have several: trained, or init.", metavar="NAME"),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            help="Weights by seed of training; intervals are then over trainings.",
            metavar="A:B,...",
        ),
    ] = None,
    out: Out = Path("results"),
) -> None:
    """Compare two measured models on the same pictures: differences, intervals, corrected p."""
    from privbench.errors import BadSetting

    screen = console()
    if pairs and weights:
        raise BadSetting("--pairs names the weights already. Leave --weights out.")
    with screen.status("resampling"):
        from privbench.cli.tables import comparison_board
        from privbench.records.store import write
        from privbench.records.utility import UtilityStore
        from privbench.utility.compare import compare as compute
        from privbench.utility.trainings import over_trainings, read_pairs

        records, path = list(UtilityStore(out).records()), out / "comparison.csv"
        if pairs:
            table = over_trainings(records, first, second, read_pairs(pairs))
            path = out / "trainings.csv"
        else:
            table = compute(records, first, second, weights)
        write(path, table.to_csv(index=False, float_format="%.6g").encode())
    screen.print(comparison_board(table, first, second, by="trainings" if pairs else "pictures"))
    screen.print(f"Table: {path}", soft_wrap=True)
