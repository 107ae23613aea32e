"""The command line's victims: train them, take over weights, study them."""

from pathlib import Path
from typing import Annotated

import typer

from privbench.cli.options import (
    Device,
    Names,
    Out,
    Pictures,
    Splits,
    Weights,
    console,
    place,
    split_names,
)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(train)
    app.command("import-weights")(import_weights)
    studies = typer.Typer(no_args_is_help=True, help="Look into victims' weights.")
    studies.command("pe")(study_pe)
    studies.callback()(lambda: None)  # with it the one command keeps its name
    app.add_typer(studies, name="study")


def train(
    model: Annotated[str, typer.Option(help="Victim to train, such as vit_mjp.")],
    dataset: Pictures = None,
    data_root: Splits = None,
    defense: Annotated[
        str, typer.Option(help="Defense on every update of the training; a+b stacks them.")
    ] = "none",
    epochs: Annotated[
        int | None, typer.Option(help="Short for --set train.epochs=N.", metavar="N")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order, augmentation.", min=0)] = 0,
    set_: Annotated[
        Names,
        typer.Option(
            "--set",
            help="train.lr=5e-4; also dataset., defense., model. Repeat it.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    device: Device = "auto",
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that augment large pictures.", metavar="N", min=0),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Start from a safetensors file, trained, or pretrained; other classes get a new "
            "head. \\[default: init]",
            metavar="NAME",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="\\[default: results/training/MODEL[-DEFENSE][-from-WEIGHTS]-seedN]",
            metavar="DIR",
            parser=place,
        ),
    ] = None,
) -> None:
    """Train a victim by its recipe; the same command goes on where it was stopped.

    Several processes share each batch: torchrun --nproc-per-node 2 -m privbench train ...
    """
    screen = console()
    with screen.status("loading"):
        from privbench.cli.tables import Ascent, Passes
        from privbench.training.session import begin, finish

        name = model.replace(":", "_") + ("" if defense == "none" else f"-{defense}")
        name += f"-from-{Path(weights).stem}" if weights else ""
        folder = out or Path("results") / "training" / f"{name}-seed{seed}"
        assignments = [*(set_ or []), *([f"train.epochs={epochs}"] if epochs else [])]
    passes = Passes(screen)
    with passes.bar:
        training = begin(
            model,
            dataset,
            data_root,
            assignments,
            seed=seed,
            device=device,
            out=folder,
            workers=workers,
            defense=defense,
            weights=weights,
            report=passes.report,
        )
    words = ["privbench train --model", model, "--dataset", str(training.identity["dataset"])]
    words += ["--data-root PATH"] if data_root else []
    words += [f"--defense {defense}"] if defense != "none" else []
    words += [f"--weights {Path(weights).name}"] if weights else []
    words += [f"--seed {seed}", *(f"--set {one}" for one in assignments)]
    if not training.engine.is_main_process:
        finish(training, lambda *_: None)
        return
    for split in (training.train, training.test):
        if complaint := split.complaint():
            screen.print(f"Note: {complaint}", soft_wrap=True)
    if training.identity.get("new head"):
        classes = training.victim.model.vit.classes
        screen.print(f"Note: {weights} knows other classes: a new head for {classes} is trained.")
    ascent = Ascent(screen)
    with ascent.bar:
        path = finish(training, ascent.report, " ".join(words))
    screen.print(_accuracy(path.with_suffix(".json")), highlight=False)
    screen.print(f"Weights: {path}", soft_wrap=True)
    screen.print(f"Log: {folder / 'log.csv'}", soft_wrap=True)
    attack = ["privbench run --attack gradinv --model", model]
    attack += [f"--defense {defense}"] if defense != "none" else []
    attack += [f"--dataset {dataset}"] if dataset else []
    attack += [f"--data-root {training.test.pictures.root}"] if data_root else []
    kept = [one for one in assignments if one.startswith(("dataset.", "defense.", "model."))]
    attack += [f"--set {one}" for one in kept if not one.startswith("model.dropout")]
    screen.print(f"Attack them: {' '.join(attack)} --weights {path}", soft_wrap=True)


def _accuracy(card: Path) -> str:
    """Say what the weights reach that were written, by their card."""
    import json

    found = json.loads(card.read_text(encoding="utf-8"))
    mean, (low, high) = found["accuracy"], found["accuracy interval (Wilson, 95 %)"]
    interval = f"{100 * low:.2f} to {100 * high:.2f}"
    n = found["test pictures (n)"]
    return f"Accuracy of these weights: {100 * mean:.2f} % ({interval}) on {n:,} test pictures"


def study_pe(
    model: Annotated[list[str], typer.Option(help="Victims; repeat it, or separate by commas.")],
    weights: Weights = None,
    set_: Annotated[
        Names, typer.Option("--set", help="model.embed_dim=192. Repeat it.", metavar="KEY=VALUE")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of folds and random tables.", min=0)] = 0,
    out: Out = Path("results"),
) -> None:
    """Measure how plainly position embeddings tell places: variance, ridge regression, figure."""
    screen = console()
    with screen.status("loading"):
        import torch

        from privbench.cli.tables import Passes, positions_board
        from privbench.records.store import write
        from privbench.reports.positions_figure import draw
        from privbench.running.plan import model_part
        from privbench.running.product import distribute
        from privbench.study.positions import study
        from privbench.victims.load import known_settings, load
        from privbench.victims.preset import model_preset, parse_settings

        names = split_names(model)
        known = {name: known_settings(model_preset(name)) for name in names}
        changes = distribute("model", parse_settings(set_ or [], ("model",))["model"], known)
        cpu = torch.device("cpu")
        loaded = {name: load(name, changes[name], (), weights, cpu) for name in names}
        victims = [
            (model_part(name, changes[name], victim).label, victim)
            for name, victim in loaded.items()
        ]
    passes = Passes(screen)
    with passes.bar:
        table = study(victims, seed, lambda done, total: passes.report("tables", done, total))
    folder = out / "study"
    write(folder / "pe.csv", table.to_csv(index=False, float_format="%.6g").encode())
    write(folder / "pe.png", draw(table))
    screen.print(positions_board(table))
    screen.print(f"Table: {folder / 'pe.csv'}", soft_wrap=True)
    screen.print(f"Figure: {folder / 'pe.png'}", soft_wrap=True)


def import_weights(
    file: Annotated[
        Path,
        typer.Argument(
            help="A checkpoint of timm, DeiT, MAE, DINO, Hugging Face, MJP's code.", parser=place
        ),
    ],
    model: Annotated[str, typer.Option(help="The victim that it fits, such as vit_mjp_small.")],
    part: Annotated[
        str | None,
        typer.Option(help="Which of the file's models, such as ema or teacher.", metavar="NAME"),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="Classes of the file's head that are the model's, in order: 1:1001, or a text "
            "file of numbers.",
            metavar="CLASSES",
        ),
    ] = None,
    new_head: Annotated[
        bool, typer.Option("--new-head", help="Draw a head, for a backbone without one.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="\\[default: MODEL-FILE.safetensors]", metavar="FILE", parser=place),
    ] = None,
    set_: Annotated[
        Names, typer.Option("--set", help="model.num_classes=100. Repeat it.", metavar="KEY=VALUE")
    ] = None,
) -> None:
    """Turn somebody's checkpoint into a safetensors file that --weights takes."""
    screen = console()
    with screen.status("loading"):
        from privbench.victims.import_checkpoint import import_weights as convert
        from privbench.victims.import_checkpoint import told
        from privbench.victims.preset import parse_settings

        settings = parse_settings(set_ or [], ("model",))["model"]
        target = out or Path(f"{model.replace(':', '_')}-{file.stem}.safetensors")
        card = convert(file, model, target, settings, part=part, columns=columns, new_head=new_head)
    for line in told(card):
        screen.print(line, soft_wrap=True)
    screen.print(f"Weights: {target}", soft_wrap=True)
