"""From the options of `privbench train` to a training, and from its end to weights and a card."""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from privbench import train
from privbench.component import complaint, find, make
from privbench.config import model_preset, parse_settings
from privbench.dataset import Dataset, fingerprint
from privbench.environment import describe
from privbench.environment import device as pick
from privbench.errors import BadData, BadSetting, UnknownName
from privbench.recipe import Recipe
from privbench.store import write
from privbench.train import Report, Split, Training
from privbench.victim import load

SECTIONS = ("dataset", "model", "train")
CHUNK = 1000


def begin(
    model: str,
    dataset: str | None,
    data_root: Path | None,
    assignments: Sequence[str],
    *,
    seed: int,
    device: str,
    out: Path,
) -> Training:
    """Check every name and setting, read the pictures; raises PrivbenchError."""
    settings = parse_settings(assignments, SECTIONS)
    preset = model_preset(model)
    UnknownName.refuse("setting of train", settings["train"], Recipe.model_fields)
    try:
        recipe = Recipe(**preset.recipe.model_dump() | settings["train"])
    except ValidationError as error:
        raise BadSetting(complaint("train", error)) from None
    victim = load(model, settings["model"] | {"init_seed": seed}, (), "init", pick(device))
    vit = victim.model.vit
    name = dataset or preset.dataset
    splits = {
        split: _read(name, data_root, split, settings["dataset"], vit.side, vit.classes)
        for split in ("train", "test")
    }
    if len(splits["train"].labels) < recipe.batch_size or recipe.batch_size % 2:
        raise BadSetting(
            f"A batch of {recipe.batch_size} needs to be even and no larger than the "
            f"{len(splits['train'].labels)} training pictures. Use --set train.batch_size=N."
        )
    identity = {
        "model": model,
        "settings": dict(victim.settings),
        "recipe": recipe.model_dump(),
        "seed": seed,
        "dataset": name,
        **{
            f"{split} pictures": fingerprint(part.pixels, part.labels)
            for split, part in splits.items()
        },
    }
    return Training(victim, recipe, seed, splits["train"], splits["test"], identity, out)


def finish(training: Training, report: Report) -> Path:
    """Train to the end, then write float16 weights and their card; return the weights' path."""
    start = time.perf_counter()
    log = train.run(training, report)
    victim, name = training.victim, str(training.identity["model"])
    halved = {k: t.half() for k, t in victim.model.vit.state_dict().items()}
    victim.model.vit.load_state_dict({k: t.float() for k, t in halved.items()})
    best = max(log, key=lambda row: row["accuracy"])
    card = {
        **training.identity,
        "accuracy": train.accuracy_of(victim, training.test),
        "accuracy of": "the last epoch's float16 weights, without the defense's dice",
        "test pictures (n)": len(training.test.labels),
        "best epoch": int(best["epoch"]),
        "accuracy of the best epoch": best["accuracy"],
        "seconds since the last start": round(time.perf_counter() - start, 1),
        "date": datetime.now(UTC).date().isoformat(),
        "environment": describe(victim.model.vit.mean.device),
    }
    text = json.dumps(card, indent=1, sort_keys=True)
    path = training.folder / f"{name}.safetensors"
    train.write_tensors(path, halved, {"card": text})
    write(path.with_suffix(".json"), text.encode())
    return path


def _read(
    name: str,
    root: Path | None,
    split: str,
    settings: Mapping[str, Any],
    side: int,
    classes: int,
) -> Split:
    """Read a whole split; a data set without splits of its own has folders train and test."""
    given: dict[str, Any] = dict(settings)
    if "split" in find(Dataset, name).setting_names():
        given |= {"split": split, "root": root}
    elif root is not None:
        given["root"] = root / split
    pictures = make(Dataset, name, given)
    parts = []
    for start in range(0, len(pictures), CHUNK):
        chosen = range(start, min(start + CHUNK, len(pictures)))
        images, labels = pictures.load(chosen, side, classes)
        parts.append(((images * 255).round().byte(), labels))
    if not parts:
        raise BadData(f"{name} has no {split} pictures. Name another --data-root.")
    return Split(torch.cat([p for p, _ in parts]), torch.cat([q for _, q in parts]))
