"""Builds the audited model and gives it the weights that the client began with."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from timm.data.config import resolve_model_data_config
from torch import nn

from privbench.auditing import naming
from privbench.auditing.arrays import Content, Source, content
from privbench.auditing.naming import Model, Named
from privbench.errors import BadSetting
from privbench.observation import PublicModel
from privbench.stack import Stack
from privbench.victims.backbone import PLAIN
from privbench.victims.families import wrap
from privbench.victims.load import load
from privbench.victims.preset import is_own
from privbench.vit import ViT


@dataclass(frozen=True)
class First:
    """The weights that the client began with: as they were read, and named."""

    raw: Content
    named: Named


def open_model(
    model: str | nn.Module, settings: Mapping[str, Any], where: torch.device, own: bool
) -> tuple[Model, PublicModel]:
    """Return a network of its own; settings are the model's, `own` keeps the module's weights.

    Raises BadSetting, UnknownName or UnsupportedModel.
    """
    if isinstance(model, str):
        if own and not is_own(model):
            raise BadSetting("The weights before are missing. Name them, such as `--before W0`.")
        victim = load(model, settings, (), None if is_own(model) else "init", where)
        return Model(victim.model.vit, model, settings), victim.model
    inner = model.backbone if isinstance(model, ViT) else model
    network: Any = copy.deepcopy(inner).float()
    known = resolve_model_data_config(network) if getattr(network, "pretrained_cfg", None) else {}
    pixels = {**PLAIN, **{k: known[k] for k in PLAIN if k in known}, **settings}
    vit = wrap(network, pixels["mean"], pixels["std"]).eval().to(where)
    stack = Stack(parts=())
    return Model(vit, type(inner).__name__, settings, live=True), PublicModel(vit, stack)


def fill(model: Model, source: Source | None) -> First:
    """Load weights in place; without any the model's own stay. Raises BadWeights or BadSetting."""
    if source is None:
        state = {key: one.cpu() for key, one in model.vit.state_dict().items()}
        return First(state, Named(state))
    raw = content(source, "The file of --before")
    named = naming.whole(raw, model, "The file of --before")
    wrong = [key for key, one in named.tensors.items() if not one.float().isfinite().all()]
    if wrong:
        raise BadSetting(
            f"The weights before are infinite or no numbers in {wrong[0]}. Name those that the "
            "client began with."
        )
    model.vit.load_state_dict({key: one.float() for key, one in named.tensors.items()})
    return First(raw, named)
