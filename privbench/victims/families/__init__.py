"""Families of vision transformers: one file each, found by what it takes of timm's classes."""

import pkgutil
from collections.abc import Sequence
from importlib import import_module

from torch import nn

from privbench.errors import UnsupportedModel
from privbench.vit import ViT


def families() -> dict[str, type[ViT]]:
    """Return the families by the name of their file."""
    found: dict[str, type[ViT]] = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        module = import_module(f"{__name__}.{name}")
        for value in vars(module).values():
            own = isinstance(value, type) and value.__module__ == module.__name__
            if own and issubclass(value, ViT):
                found[name] = value
    return found


def wrap(backbone: nn.Module, mean: Sequence[float], std: Sequence[float]) -> ViT:
    """Return a backbone as a victim of its family; raises UnsupportedModel where there is none."""
    known = families()
    for family in known.values():
        if type(backbone) in family.takes:
            return family(backbone, mean, std)
    raise UnsupportedModel(
        f"{type(backbone).__name__} is of no family whose parts attacks know ({', '.join(known)}): "
        "it can be measured (`privbench eval`), not attacked or trained. Choose a ViT of timm, "
        "e.g. timm:deit_small_patch16_224."
    )
