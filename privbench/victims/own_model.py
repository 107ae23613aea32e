"""The user's own network, from a function in a file that the user names."""

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from privbench.component import Part, label
from privbench.errors import BadSetting, UnknownName
from privbench.victims.preset import OWN, own_label

SETTING = "img_size"
"""The one setting: side of the pictures in pixels; else the network's attribute of that name."""
SIDE = 224


@dataclass(frozen=True)
class OwnModel:
    """A network from float32 pictures in [0, 1] to logits; it normalizes by itself."""

    network: nn.Module
    part: Part
    side: int
    classes: int


def open_own(
    name: str, settings: Mapping[str, Any], weights: str | None, device: torch.device
) -> OwnModel:
    """Call the function, without arguments; it returns a torch.nn.Module. Raises BadSetting.

    This runs the file, as Python would: name only files that you trust.
    """
    short = own_label(name)
    refuse_weights(name, weights)
    network = built(name).eval().to(device)
    side = settings.get(SETTING, getattr(network, SETTING, SIDE))
    side = side[0] if isinstance(side, tuple | list) and side else side
    if type(side) is not int or side < 1:
        raise BadSetting(
            f"{short}: {SETTING} is the side of the pictures in pixels, a whole number, not "
            f"{side!r}."
        )
    identity = {"scheme": "none", SETTING: side, "code_sha256": code_sha256(name)}
    part = Part(short, label(short, settings), 1, identity)
    return OwnModel(network, part, side, _classes(network, short, side, device))


def code_sha256(name: str) -> str:
    """Return the hash of the file: other code under the same name is another model."""
    return hashlib.sha256(_parts(name)[0].read_bytes()).hexdigest()


def refuse_weights(name: str, weights: str | None) -> None:
    """Raise BadSetting, before the file is run, if the user names weights."""
    if weights is not None:
        raise BadSetting(f"{own_label(name)} brings weights of its own. Leave --weights out.")


def built(name: str) -> nn.Module:
    """Return what FILE.py:FACTORY gives; raises BadSetting. This runs the file."""
    return _made(*_parts(name))


def _parts(name: str) -> tuple[Path, str]:
    match = OWN.fullmatch(name)
    assert match is not None
    return Path(match["file"]), match["factory"]


def _made(file: Path, factory: str) -> nn.Module:
    """Run the file that the user names and call the function in it."""
    if not file.is_file():
        raise BadSetting(f"There is no file '{file}'. Name one as --model FILE.py:FACTORY.")
    spec = importlib.util.spec_from_file_location(f"_own_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        functions = [key for key, value in vars(module).items() if callable(value)]
        if factory not in functions:
            raise UnknownName(f"function of {file.name}", factory, functions)
        network = getattr(module, factory)()
    except UnknownName:
        raise
    except Exception as error:  # whatever the user's code raises
        raise BadSetting(
            f"{file.name}:{factory} failed with {type(error).__name__}: {error}. Call it in Python "
            "to see where."
        ) from None
    if not isinstance(network, nn.Module):
        raise BadSetting(
            f"{file.name}:{factory} returns {type(network).__name__}, not a torch.nn.Module. Let "
            "it return the network itself."
        )
    return network


@torch.no_grad()
def _classes(network: nn.Module, name: str, side: int, device: torch.device) -> int:
    """Show it one picture."""
    try:
        found = network(torch.full((1, 3, side, side), 0.5, device=device))
    except Exception as error:  # whatever the user's network raises
        raise BadSetting(
            f"{name} does not take pictures of {side} px ({type(error).__name__}: {error}). Give "
            "the network an attribute img_size, or add --set model.img_size=32."
        ) from None
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != 1:
        given = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise BadSetting(
            f"{name} answers with {given} for one picture, not with logits of shape (1, classes). "
            "Let its forward return logits alone."
        )
    return found.shape[1]
