"""Parts of a victim by their parameters' names, and layers that carry adapters."""

import re
from collections.abc import Callable, Iterable

from torch import nn

from privbench.defenses.mjp import MaskedJigsaw
from privbench.errors import UnsupportedModel
from privbench.vit import ViT

HEADS = ("head.", "head_dist.")
LAST = (*HEADS, "norm.", "fc_norm.")
"""What stands behind the blocks, inside the backbone."""
BOTTLENECK = "bottleneck"
"""What a defense puts between the features and the head: trained with the head."""

Wrap = Callable[[nn.Linear], nn.Linear]


def head(vit: ViT) -> frozenset[str]:
    """Names of the trained parameters behind the features."""
    behind = (f"{BOTTLENECK}.", *(ViT.BACKBONE + one for one in HEADS))
    return frozenset(name for name in vit.trained() if name.startswith(behind))


def norms(vit: ViT) -> frozenset[str]:
    """Names of the trained parameters of LayerNorms."""
    return frozenset(
        f"{name}.{own}"
        for name, module in vit.named_modules()
        if isinstance(module, nn.LayerNorm)
        for own, parameter in module.named_parameters(recurse=False)
        if parameter.requires_grad
    )


def before(names: Iterable[str], blocks: int) -> frozenset[str]:
    """Return those in front of a block: of the stem, tables, tokens and the blocks before."""
    found = set()
    for name in names:
        inside = name.removeprefix(ViT.BACKBONE)
        block = re.match(r"blocks\.(\d+)\.", inside)
        early = int(block[1]) < blocks if block else not inside.startswith(LAST)
        if name == MaskedJigsaw.UNKNOWN or (inside != name and early):
            found.add(name)
    return frozenset(found)


def wrap(vit: ViT, layers: Iterable[str], change: Wrap) -> frozenset[str]:
    """Change linear layers of all blocks, and remember what that adds as fresh; return its names.

    Raises UnsupportedModel where blocks have no such layers.
    """
    known = set(vit.state_dict())
    for block in vit.backbone.blocks:
        for path in layers:
            owner, _, name = path.rpartition(".")
            part = getattr(block, owner, None)
            layer = getattr(part, name, None)
            if part is None or not isinstance(layer, nn.Linear):
                raise UnsupportedModel(
                    f"Blocks of {type(vit.backbone).__name__} have no linear layer {path}, which "
                    "adapters are put on. Choose a plain ViT or DeiT, e.g. "
                    "timm:deit_small_patch16_224."
                )
            setattr(part, name, change(layer))
    added = frozenset(set(vit.state_dict()) - known)
    vit.fresh |= added
    return added
