"""Whether a checkpoint fits the victim that it is taken over for, and what to do if not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from privbench.errors import BadWeights
from privbench.victims.advice import NOTHING, advice
from privbench.victims.fit import differences
from privbench.victims.load import Victim, load
from privbench.victims.preset import model_preset, preset_names
from privbench.vit import ViT

BACKBONE = ViT.BACKBONE
DISTILLED = f"{BACKBONE}dist_token"
SHOWN = 3
CPU = torch.device("cpu")


def check(
    file: Path, model: str, settings: Mapping[str, Any], victim: Victim, found: Mapping[str, Tensor]
) -> None:
    """Raise BadWeights for what does not fit, with settings or victims that it does fit."""
    vit = victim.model.vit
    wrong = differences(vit, found)
    if not wrong:
        return
    if DISTILLED in found and DISTILLED not in vit.state_dict():
        other = advice(model, settings, found)
        if other == NOTHING:
            other = "Choose one with it, such as timm:deit_small_distilled_patch16_224"
        raise BadWeights(
            f"'{file.name}' is a distilled model (dist_token, head_dist), and {model} has no "
            f"distillation token. {other}."
        )
    if set(wrong) <= {ViT.HEAD, ViT.HEAD_BIAS}:
        raise BadWeights(f"'{file.name}' {_of_head(model, vit, found, wrong)}")
    fits: list[str] = []
    if all(key == ViT.POSITIONS or not key.startswith(BACKBONE) for key in wrong):
        fits = _fitting(victim, settings, found)
    first = "; ".join(list(wrong.values())[:SHOWN])
    said = f"It fits {', '.join(fits)}" if fits else advice(model, settings, found)
    raise BadWeights(
        f"'{file.name}' does not fit {model}: {len(wrong)} tensors differ, first {first}. {said}."
    )


def _of_head(model: str, vit: ViT, found: Mapping[str, Tensor], wrong: Mapping[str, str]) -> str:
    """Say what is wrong with a head alone, and what to do."""
    head = found.get(ViT.HEAD)
    if head is None:
        return (
            f"is a backbone without a linear head, and {model} has {vit.classes} classes. Add "
            "`--new-head` for one that is drawn, and then train it (`privbench train --weights`)."
        )
    if head.ndim != 2 or len(head) == vit.classes:
        return (
            f"does not fit {model}: {len(wrong)} tensors differ, first "
            f"{next(iter(wrong.values()))}. Choose the model that it was made for."
        )
    skip = len(head) - vit.classes
    span = f"{skip}:{len(head)}" if skip == 1 else "FILE"
    what = "all but the first" if skip == 1 else "the classes that it lists, in order"
    some = f", or `--columns {span}` for {what}" if skip > 0 else ", or `--new-head` for one drawn"
    return (
        f"does not fit {model}: {len(head)} classes in the file, {vit.classes} in the model. Add "
        f"`--set model.num_classes={len(head)}`{some}."
    )


def _fitting(victim: Victim, settings: Mapping[str, Any], found: Mapping[str, Tensor]) -> list[str]:
    names = []
    for name in preset_names("models"):
        preset = model_preset(name)
        if preset.timm is None and preset.architecture == victim.preset.architecture:
            same = {key: value for key, value in settings.items() if key in preset.architecture}
            if not differences(load(name, same, (), "init", CPU).model.vit, found):
                names.append(name)
    return names
