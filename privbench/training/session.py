"""From the options of `privbench train` to a training, and from its end to weights and a card."""

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from pydantic import ValidationError

from privbench.component import complaint, find, label, make
from privbench.defense import Defense
from privbench.errors import BadData, BadSetting, UnknownName
from privbench.records.store import write
from privbench.reports.stats import share_interval
from privbench.running.environment import describe, revision
from privbench.running.environment import device as pick
from privbench.running.product import distribute
from privbench.training import heeded, look, loop
from privbench.training.checkpoint import write_tensors
from privbench.training.job import Training
from privbench.training.loop import Report
from privbench.training.origin import start_from
from privbench.training.recipe import Recipe
from privbench.training.split import SMALL, Split, read_split
from privbench.victims import facts
from privbench.victims.class_names import KEY
from privbench.victims.load import Victim, load
from privbench.victims.preset import model_preset, own_label, parse_settings

SECTIONS = ("dataset", "defense", "model", "train")
MOST_WORKERS = 16


def begin(
    model: str,
    dataset: str | None,
    data_root: Path | None,
    assignments: Sequence[str],
    *,
    seed: int,
    device: str,
    out: Path,
    workers: int | None = None,
    defense: str = "none",
    weights: str | None = None,
    report: look.Report = look.silent,
) -> Training:
    """Check every name and setting, read the pictures; raises PrivbenchError.

    The defense is a name, or several that an update passes through: a+b. Weights are what to
    start from, by name or file; without them they are drawn.
    """
    settings = parse_settings(assignments, SECTIONS)
    preset = model_preset(model)
    if preset.own:
        raise BadSetting(
            f"{own_label(model)} brings weights of its own, and no command would take those that a "
            "training writes. Train it by your own code, or make a preset of it "
            "(docs/tutorial_own_model.md)."
        )
    UnknownName.refuse("setting of train", settings["train"], Recipe.model_fields)
    try:
        recipe = Recipe(**preset.recipe.model_dump() | settings["train"])
    except ValidationError as error:
        raise BadSetting(complaint("train", error)) from None
    # The penalty and embeddings that a draw leaves out make some parameters idle in some steps.
    idle = DistributedDataParallelKwargs(find_unused_parameters=True)
    engine = Accelerator(cpu=pick(device).type == "cpu", kwargs_handlers=[idle])
    parts = _defenses(defense, settings["defense"])
    changed = settings["model"] | {"init_seed": seed}
    victim = load(model, changed, tuple(parts.values()), "init", engine.device)
    vit = victim.model.vit
    _check_defense(victim, engine.num_processes)
    heeded.check(recipe, settings["train"], victim)
    drawn = weights in (None, "init")
    origin = None if drawn else start_from(victim, model, settings["model"], str(weights))
    name = dataset or preset.dataset
    first, second = (
        read_split(name, data_root, split, settings["dataset"], vit.side, vit.classes)
        for split in ("train", "test")
    )
    _check_classes(name, model, first, second)
    _check_batch(recipe, len(first), engine.num_processes)
    look.look_through({"train": first, "test": second}, out, engine, report)
    _check_batch(recipe, len(first), engine.num_processes)
    identity = {
        "model": model,
        "settings": dict(victim.settings),
        "recipe": recipe.model_dump(),
        "seed": seed,
        "dataset": name,
        "train pictures": first.fingerprint(),
        "test pictures": second.fingerprint(),
    }
    if defended := [one for one in parts if one != "none"]:
        identity["defense"] = "+".join(defended)
    if origin is not None:
        identity |= {"weights": origin.weights, "weights_sha256": origin.sha256}
        identity["new head"] = origin.new_head
    return Training(
        victim,
        recipe,
        seed,
        first,
        second,
        identity,
        out,
        engine,
        _workers(engine, vit.side) if workers is None else workers,
    )


def _defenses(names: str, settings: Mapping[str, Any]) -> dict[str, Defense]:
    """Build the defenses of a+b, by the names that a record would have for them."""
    split = [name.strip() for name in names.split("+")]
    given = distribute("defense", settings, {n: find(Defense, n).setting_names() for n in split})
    made = [(name, make(Defense, name, given[name])) for name in split]
    return {label(name, one.changed()): one for name, one in made}


def _check_defense(victim: Victim, processes: int) -> None:
    """Refuse what a training could not do, before it begins."""
    victim.shared()
    defense = victim.model.defense
    if defense.feeds_back:
        raise BadSetting(
            "This defense adds what an update left out to the next one, and a training takes every "
            "update for a client's first. Train it without feedback."
        )
    if processes > 1 and (defense.per_example or defense.changes("finish")):
        raise BadSetting(
            "This defense works on the gradients of single examples or on activations, of which "
            f"each of {processes} processes has only its part. Train it in one process, without "
            "torchrun."
        )


def _workers(engine: Accelerator, side: int) -> int:
    """Small pictures need no helpers on a processor, which has better to do."""
    if engine.device.type == "cpu" and side <= SMALL:
        return 0
    return min((os.cpu_count() or 1) // engine.num_processes, MOST_WORKERS)


def _check_classes(name: str, model: str, first: Split, second: Split) -> None:
    if not first.pictures.labelled():
        raise BadData(
            f"{name} has no classes to learn: put the pictures into train/CLASS and test/CLASS, or "
            "write a labels.csv."
        )
    known, tested = first.pictures.class_names(), second.pictures.class_names()
    if known and len(known) != first.classes:
        raise BadData(
            f"{name} has {len(known)} classes, but {model} has {first.classes}; "
            f"add --set model.num_classes={len(known)}."
        )
    if other := sorted(set(known) ^ set(tested)):
        raise BadData(
            f"The classes of {name}'s train and test folders differ, first '{other[0]}'. "
            "Give both the same class folders."
        )


def _check_batch(recipe: Recipe, pictures: int, processes: int) -> None:
    unit = 2 * processes
    if pictures < recipe.batch_size or recipe.batch_size % unit:
        raise BadSetting(
            f"A batch of {recipe.batch_size} has to be a multiple of {unit} and no larger than the "
            f"{pictures} training pictures. Use --set train.batch_size=N."
        )


def finish(training: Training, report: Report, command: str = "") -> Path:
    """Train to the end, then write float16 weights and their card; return the weights' path.

    The command is what a reader of the card types to get these weights. Raises NotFinite, and
    writes no weights, where the training diverges.
    """
    log = loop.run(training, report)
    victim, name = training.victim, str(training.identity["model"])
    halved = {k: t.half() for k, t in victim.model.vit.state_dict().items()}
    if wrong := next((k for k, tensor in halved.items() if not tensor.isfinite().all()), None):
        steps = len(training.train) // training.recipe.batch_size * training.recipe.epochs
        what = f"{wrong}, as float16 holds it,"
        raise loop.diverged(training, what, steps, steps, log[-1]["lr"])
    victim.model.vit.load_state_dict({k: t.float() for k, t in halved.items()})
    accuracy = loop.accuracy_of(victim, training.test, training.engine)
    best = max(log, key=lambda row: row["accuracy"])
    n = len(training.test)
    card: dict[str, Any] = {
        **training.identity,
        KEY: training.train.pictures.class_names(),
        "command": command,
        "accuracy": accuracy,
        "accuracy interval (Wilson, 95 %)": share_interval(round(accuracy * n), n)[1:],
        "accuracy of": "the last epoch's float16 weights, without the defense's random draws",
        "test pictures (n)": n,
        "pictures left out, unreadable": len(training.train.unreadable)
        + len(training.test.unreadable),
        "best epoch, chosen on the test pictures": int(best["epoch"]),
        "accuracy of the best epoch": best["accuracy"],
        "training hours": round(sum(row["seconds"] for row in log) / 3600, 3),
        "processes": training.engine.num_processes,
        "date": datetime.now(UTC).date().isoformat(),
        "revision": revision(),
        "environment": describe(victim.model.vit.mean.device),
        facts.KEY: facts.facts(victim.model.vit),
    }
    text = json.dumps(card, indent=1, sort_keys=True)
    path = training.folder / f"{name.replace(':', '_')}.safetensors"
    if training.engine.is_main_process:
        write_tensors(path, halved, {"card": text})
        write(path.with_suffix(".json"), text.encode())
    training.engine.wait_for_everyone()
    return path
