"""Names of tensors in other people's checkpoints, turned into this package's."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from privbench.victims.checkpoint_file import Found
from privbench.vit import ViT

BACKBONE = ViT.BACKBONE
TABLE = "pos_embed.weight"
"""Position table of MJP's released code: an embedding whose last row is the unknown one."""
LOCALIZER = "dlocr."
"""Localization head of MJP's released code."""
OWN = ("unknown_embed", "localizer.")
"""What stands beside a backbone in this package's own files."""
HEADS = ("head", "classifier", "fc", "linear", "heads.head", "cls_classifier", "linear_head")
"""Names of the last linear layer where it stands outside."""
IDLE = re.compile(
    r"mask_token|decoder.*|pooler\..*|.*relative_position_index|head\.(mlp|last_layer).*|"
    r"embeddings\.mask_token|.*num_batches_tracked"
)
"""Of pretraining, or indices: nothing that a classifier computes with."""
LAYER = r"encoder\.layer\.(\d+)\."
HUGGING_FACE = (
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.distillation_token", "dist_token"),
    (r"embeddings\.register_tokens", "reg_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (LAYER + r"attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (LAYER + r"attention\.attention\.", r"blocks.\1.attn."),
    (LAYER + r"(?:layernorm_before|norm1)\.", r"blocks.\1.norm1."),
    (LAYER + r"(?:layernorm_after|norm2)\.", r"blocks.\1.norm2."),
    (LAYER + r"(?:intermediate\.dense|mlp\.fc1)\.", r"blocks.\1.mlp.fc1."),
    (LAYER + r"(?:output\.dense|mlp\.fc2)\.", r"blocks.\1.mlp.fc2."),
    (LAYER + r"layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
    (r"layernorm\.", "norm."),
)
ENCODER = r"encoder\.layers\.encoder_layer_(\d+)\."
TORCHVISION = (
    (r"class_token", "cls_token"),
    (r"encoder\.pos_embedding", "pos_embed"),
    (r"conv_proj\.", "patch_embed.proj."),
    (ENCODER + r"self_attention\.in_proj_", r"blocks.\1.attn.qkv."),
    (ENCODER + r"self_attention\.out_proj\.", r"blocks.\1.attn.proj."),
    (ENCODER + r"ln_([12])\.", r"blocks.\1.norm\2."),
    (ENCODER + r"mlp\.(?:linear_1|0)\.", r"blocks.\1.mlp.fc1."),
    (ENCODER + r"mlp\.(?:linear_2|3)\.", r"blocks.\1.mlp.fc2."),
    (r"encoder\.ln\.", "norm."),
    (r"heads\.head\.", "head."),
)
DINO = (
    (r"register_tokens", "reg_token"),
    (r"blocks\.\d+\.(\d+)\.", r"blocks.\1."),
    (r"(.*)\.mlp\.w12\.", r"\1.mlp.fc1."),
    (r"(.*)\.mlp\.w3\.", r"\1.mlp.fc2."),
)
"""Blocks in chunks, and the names of a gated MLP, as DINOv2's released code has them."""


@dataclass
class Named:
    """Tensors under this package's names."""

    layout: str
    tensors: dict[str, Tensor]
    left_out: list[str] = field(default_factory=list)


def rename(found: Found, known: Collection[str]) -> Named:
    """Return a checkpoint's tensors under this package's names, and what was left out.

    Known are the names that the victim has; of what stands beside the transformer, only a head
    and what the victim knows is taken.
    """
    layout, inside = _inside(found.inside)
    left = [key for key in inside if IDLE.fullmatch(key) and BACKBONE + key not in known]
    tensors = {BACKBONE + key: tensor for key, tensor in inside.items() if key not in left}
    if layout == "MJP's released code":
        tensors = _of_mjp(inside)
    for key, tensor in found.outside.items():
        if found.prefix.endswith(BACKBONE) and (key in known or key.startswith(OWN)):
            tensors[key] = tensor
            layout = "privbench"
        elif (name := _head(key)) and name not in tensors:
            tensors[name] = tensor
        else:
            left.append(key)
    if found.prefix == BACKBONE and layout == "timm" and not found.outside:
        layout = "privbench"
    return Named(layout, tensors, sorted(left))


def _head(key: str) -> str | None:
    """Return this package's name of a head that stands outside, or None."""
    stem, _, kind = key.rpartition(".")
    if kind in ("weight", "bias") and stem == "distillation_classifier":
        return f"{BACKBONE}head_dist.{kind}"
    if kind in ("weight", "bias") and stem in HEADS:
        return f"{BACKBONE}head.{kind}"
    return None


def _inside(given: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    if any(key.startswith("embeddings.patch_embeddings.") for key in given):
        return "Hugging Face", _joined(_replaced(given, HUGGING_FACE))
    if any(key.startswith("conv_proj.") for key in given):
        return "torchvision", _replaced(given, TORCHVISION)
    if TABLE in given or any(key.startswith(LOCALIZER) for key in given):
        return "MJP's released code", dict(given)
    return "timm", _replaced(given, DINO)


def _replaced(given: Mapping[str, Tensor], rules: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    found = {}
    for key, tensor in given.items():
        rule = next(((old, new) for old, new in rules if re.match(old, key)), None)
        found[key if rule is None else re.sub(f"^{rule[0]}", rule[1], key)] = tensor
    return found


def _joined(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put queries, keys and values, each a layer, into one; in this order, as timm has them."""
    found = dict(given)
    for key in given:
        if match := re.fullmatch(r"(.*attn)\.query\.(weight|bias)", key):
            names = [f"{match[1]}.{one}.{match[2]}" for one in ("query", "key", "value")]
            if all(name in given for name in names):
                parts = [found.pop(name) for name in names]
                found[f"{match[1]}.qkv.{match[2]}"] = torch.cat(parts)
    return found


def _of_mjp(foreign: Mapping[str, Tensor]) -> dict[str, Tensor]:
    head = {key: tensor for key, tensor in foreign.items() if key.startswith(LOCALIZER)}
    found = {BACKBONE + k: t for k, t in foreign.items() if k not in head and k != TABLE}
    if (table := foreign.get(TABLE)) is not None and table.ndim == 2 and len(table):
        found |= {ViT.POSITIONS: table[None, :-1], "unknown_embed": table[-1:]}
    elif table is not None:
        found[BACKBONE + TABLE] = table
    # One or two linear layers in order, whatever their names; a ReLU stands between two.
    for name in ("weight", "bias"):
        layers = [tensor for key, tensor in head.items() if key.endswith(f".{name}")]
        found |= {f"localizer.{2 * i}.{name}": tensor for i, tensor in enumerate(layers)}
    return found


def merge_class_row(vit: ViT, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add a table's first row to the class token where the victim's table has no row for it.

    It is the same sum; DINOv2's released weights with registers are turned so for timm.
    """
    table, token = tensors.get(ViT.POSITIONS), tensors.get(f"{BACKBONE}cls_token")
    if table is None or token is None or vit.prefix or not vit.before or table.ndim != 3:
        return dict(tensors)
    side = round(max(table.shape[1] - 1, 0) ** 0.5)
    if side**2 + 1 != table.shape[1] or table.shape[2] != token.shape[-1]:
        return dict(tensors)
    added = {f"{BACKBONE}cls_token": token + table[:, :1], ViT.POSITIONS: table[:, 1:]}
    return {**tensors, **added}
