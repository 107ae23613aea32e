"""Gives arrays the names that the audited model has for them, or says which does not fit."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from privbench.auditing.arrays import Content
from privbench.errors import BadWeights
from privbench.victims.advice import advice
from privbench.victims.checkpoint_file import Found, pick
from privbench.victims.checkpoint_names import merge_class_row, rename
from privbench.victims.fit import differences
from privbench.vit import ViT

ADAPTER = re.compile(r"lora|adapter|ia3|prompt|prefix_encoder", re.IGNORECASE)
"""Words in names of what stands beside a model's own weights in fine-tuning."""
WRAPPED = "base_layer."
"""Stands in the names of layers to which an adapter was added."""


@dataclass(frozen=True)
class Model:
    """The audited network, and how messages speak of it."""

    vit: ViT
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    live: bool = False
    """Whether it was handed in as a module of a running program."""


@dataclass(frozen=True)
class Named:
    """Tensors under the model's names."""

    tensors: dict[str, Tensor]
    extra: dict[str, Tensor] = field(default_factory=dict)
    """Of adapters, which the model does not have."""
    absent: tuple[str, ...] = ()
    """Names of the first file that this one leaves out."""


def whole(found: Content, model: Model, label: str) -> Named:
    """Name a whole model's weights; raises BadWeights with the first tensor that does not fit."""
    if isinstance(found, list):
        return Named(_ordered(found, model, label))
    state = pick(found, label)
    named = _named(state.found, model)
    _require_fit(named.tensors, model, label)
    return named


def part(found: Content, before: Content, model: Model, label: str, *, zero: bool) -> Named:
    """Name what another file holds of the same tensors; what it leaves out is as before, or zero.

    Raises BadWeights.
    """
    if isinstance(found, list):
        if isinstance(before, list) and len(found) != len(before):
            raise BadWeights(
                f"{label} holds {len(found)} arrays, and the weights before hold {len(before)}. "
                "Store both from one model's state dict."
            )
        return Named(_ordered(found, model, label))
    if isinstance(before, list):
        return whole(found, model, label)
    first, second = pick(before, label).found.state, _state(found, label)
    if not first.keys() & second.keys():
        return whole(found, model, label)
    absent = tuple(key for key in first if key not in second)
    for key in absent:
        second[key] = first[key] * 0 if zero else first[key]
    named = _named(pick(second, label).found, model)
    _require_fit(named.tensors, model, label)
    return Named(named.tensors, named.extra, absent)


def _state(found: Mapping[str, Any], label: str) -> dict[str, Tensor]:
    """Return the state dict in a file, or all its tensors where no transformer is seen whole."""
    direct = {key: one for key, one in found.items() if isinstance(one, Tensor)}
    return direct or dict(pick(found, label).found.state)


def _named(found: Found, model: Model) -> Named:
    state = {key.replace(WRAPPED, ""): tensor for key, tensor in found.state.items()}
    prefix = found.prefix.replace(WRAPPED, "")
    known = model.vit.state_dict()
    named = merge_class_row(
        model.vit, rename(Found(found.part, found.words, prefix, state), known).tensors
    )
    extra = {key: one for key, one in named.items() if key not in known and ADAPTER.search(key)}
    return Named({key: one for key, one in named.items() if key not in extra}, extra)


def _require_fit(tensors: Mapping[str, Tensor], model: Model, label: str) -> None:
    wrong = differences(model.vit, tensors)
    fixed = "(not the fixed values"
    wrong = {key: text for key, text in wrong.items() if fixed not in text}
    if not wrong:
        return
    first = next(iter(wrong.values()))
    raise BadWeights(
        f"{label} belongs to another model than {model.name}: {len(wrong)} tensors do not fit, "
        f"first {first}. {_advice(model, tensors, wrong)}."
    )


def _advice(model: Model, tensors: Mapping[str, Tensor], wrong: Mapping[str, str]) -> str:
    table = tensors.get(ViT.POSITIONS)
    if list(wrong) == [ViT.POSITIONS] and table is not None and table.ndim == 3:
        side = round(max(table.shape[1] - model.vit.prefix, 0) ** 0.5) * model.vit.patch
        return f"Add `--set model.img_size={side}`"
    if model.live:
        return "Build the model that it was made for"
    return advice(model.name, model.settings, tensors)


def _ordered(arrays: list[Tensor], model: Model, label: str) -> dict[str, Tensor]:
    """Name arrays by their place in the model's state dict."""
    state = model.vit.state_dict()
    if len(arrays) != len(state):
        raise BadWeights(
            f"{label} holds {len(arrays)} arrays, and the state dict of {model.name} has "
            f"{len(state)} tensors. Choose the model that it was made for, and store every tensor "
            "of its state dict."
        )
    for at, (array, (key, own)) in enumerate(zip(arrays, state.items(), strict=True)):
        if array.shape == own.shape:
            continue
        has, wants = ("x".join(map(str, one.shape)) or "one number" for one in (array, own))
        same = Counter(one.shape for one in arrays) == Counter(one.shape for one in state.values())
        why = (
            "All shapes are there in another order, so the arrays were shuffled or sorted by name: "
            "store them in the order of the state dict"
            if same
            else "Choose the model that they were made for"
        )
        raise BadWeights(
            f"{label}: array {at} is {has}, and {key} of {model.name} is {wants}. {why}."
        )
    return dict(zip(state, arrays, strict=True))
