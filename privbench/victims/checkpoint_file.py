"""What is in a checkpoint file: its state dicts, and which of them are vision transformers."""

import argparse
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from privbench.errors import BadWeights, UnknownName

WHOLE = "the whole file"
DEPTH = 4
"""How deep state dicts are looked for."""
SHOWN = 3


class Inert(OrderedDict[Any, Any]):
    """Stands for a number of numpy's, a path or a date: takes what is in it and does nothing."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, _: Any) -> None:
        """Forget it."""


def _plain(*_: Any) -> OrderedDict[Any, Any]:
    """Stand for a defaultdict, whatever makes its defaults."""
    return OrderedDict()


OPTIONS = (
    *(
        f"numpy.{core}.multiarray.{name}"
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    ),
    *("numpy.dtype", "numpy.ndarray", "_codecs.encode", "builtins.list", "builtins.dict"),
    *("builtins.int", "builtins.float", "datetime.datetime"),
    *(f"numpy.dtypes.{kind}DType" for kind in ("Float64", "Float32", "Int64", "Int32", "Bool")),
    *("datetime.timedelta", "datetime.date", "pathlib.PosixPath", "pathlib.PurePosixPath"),
    *("pathlib.WindowsPath", "pathlib.PureWindowsPath", "pathlib._local.PosixPath"),
)
"""What trainings store beside weights: numbers, paths and dates; none is needed."""
INERT: list[Any] = [
    argparse.Namespace,
    (OrderedDict, "yacs.config.CfgNode"),
    (_plain, "collections.defaultdict"),
    *((Inert, name) for name in OPTIONS),
]
"""Read as plain containers of what is in them, and none of their own code is run.

Every checkpoint of MJP's released code has a CfgNode, every one of DeiT's a Namespace.
"""
ANCHOR = re.compile(
    r"(.*?)(?:patch_embed\.proj|embeddings\.patch_embeddings\.projection|conv_proj)\.weight"
)
"""The patch projection under its known names: what stands before it stands before all names."""
LATER = (("ema", "averaged", "swa"), ("student", "momentum"))
"""Words in names of state dicts that are taken only where no other is there, in this order."""


@dataclass(frozen=True)
class Found:
    """A vision transformer in a checkpoint."""

    part: str
    """Where it is: keys, and where one state dict holds several the beginning of its names."""
    words: tuple[str, ...]
    prefix: str
    """What all its names begin with; anything, in any order."""
    state: Mapping[str, Tensor]

    @property
    def inside(self) -> dict[str, Tensor]:
        """Tensors of the transformer, without the prefix."""
        start = self.prefix
        return {k[len(start) :]: t for k, t in self.state.items() if k.startswith(start)}

    @property
    def outside(self) -> dict[str, Tensor]:
        """Tensors that stand beside it, such as a head, under their last names."""
        outer = self.prefix.removesuffix(".").rpartition(".")[0]
        start = f"{outer}." if outer else ""
        beside = {k: t for k, t in self.state.items() if not k.startswith(self.prefix)}
        return {k.removeprefix(start): t for k, t in beside.items()}


@dataclass(frozen=True)
class Choice:
    """What was taken of a file, and what else there was."""

    found: Found
    keys: tuple[str, ...]
    """Of the file."""
    others: tuple[str, ...]
    """Parts that could be taken instead."""


def choose(file: Path, part: str | None = None) -> Choice:
    """Return a state dict in a file; raises BadWeights or UnknownName.

    A part is named by its key, or by any word before its names. Without one the weights
    themselves go before their moving average, a teacher before its student.
    """
    return pick(read(file), f"'{file.name}'", part)


def pick(content: Any, label: str, part: str | None = None) -> Choice:
    """Return a state dict among what a file holds; a label is how messages call the file."""
    states = list(_states(content))
    all_found = [one for path, state in states for one in _anchored(path, state)]
    if not all_found:
        all_found = [Found(_name(path), path, "", state) for path, state in states]
    if not all_found:
        holds = ", ".join(map(str, list(content)[:SHOWN])) if _is_mapping(content) else ""
        raise BadWeights(
            f"{label} holds no state dict of tensors; it holds "
            f"{holds or type(content).__name__}. Save the state dict alone with torch.save."
        )
    fitting = [one for one in all_found if part in (None, one.part, *one.words)]
    if not fitting:
        raise UnknownName(f"part of {label}", str(part), [one.part for one in all_found])
    taken = min(fitting, key=_rank)
    others = tuple(one.part for one in all_found if one.part != taken.part)
    return Choice(taken, tuple(map(str, content)), others)


def _is_mapping(content: Any) -> bool:
    return isinstance(content, Mapping) and len(content) > 0


def _states(
    content: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Yield all that map names to tensors, whatever else they hold."""
    if not isinstance(content, Mapping) or len(path) > DEPTH:
        return
    named = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if named:
        yield path, named
    for key, value in content.items():
        if isinstance(key, str):
            yield from _states(value, (*path, key))


def _anchored(path: tuple[str, ...], state: Mapping[str, Tensor]) -> list[Found]:
    """Return the transformers in a state dict, each by where its patch projection is."""
    matches = [match for key in state if (match := ANCHOR.fullmatch(key))]
    several = len(matches) > 1
    found = []
    for match in matches:
        words = tuple(word for word in match[1].split(".") if word)
        name = _name((*path, *words) if several else path)
        # a state dict's other transformers are no part of this one, and not beside it
        others = tuple(m[1] for m in matches if m[1] and not match[1].startswith(m[1]))
        own = {key: tensor for key, tensor in state.items() if not key.startswith(others)}
        found.append(Found(name, (*path, *words), match[1], own))
    return found


def _name(path: tuple[str, ...]) -> str:
    return ".".join(path) or WHOLE


def _rank(one: Found) -> int:
    text = " ".join(one.words).lower()
    return max((n for n, words in enumerate(LATER, 1) if any(w in text for w in words)), default=0)


def read(file: Path) -> Any:
    """Return what is in a file, tensors and plain containers only."""
    if file.is_dir():
        raise BadWeights(f"'{file}' is a folder. Name the checkpoint file in it.")
    if not file.is_file():
        raise BadWeights(f"There is no file '{file}'. Name a checkpoint file.")
    if not file.stat().st_size:
        raise BadWeights(f"'{file.name}' is empty. Fetch or save it again.")
    try:
        with file.open("rb") as content:
            start = content.read(9)
        if start[8:] == b"{":  # safetensors: the length of the header, then the header
            return safetensors.torch.load_file(file)
        with warnings.catch_warnings(), torch.serialization.safe_globals(INERT):
            warnings.simplefilter("ignore")  # of old pickle protocols and storages
            # Foreign checkpoints are pickles. weights_only builds tensors and plain containers
            # and refuses everything else, so no code of the file ever runs.
            return torch.load(file, map_location="cpu", weights_only=True)  # noqa: TID251
    except (OSError, SafetensorError) as error:
        raise BadWeights(
            f"'{file.name}' cannot be read: {error}. Fetch or save it again."
        ) from None
    except pickle.UnpicklingError as error:
        if named := re.search(r"GLOBAL (\S+)", str(error)):
            raise BadWeights(
                f"'{file.name}' holds more than tensors ({named[1]}), which could run code, so it "
                "was not read. Where you trust it, save its state dict alone with torch.save."
            ) from None
        raise _unreadable(file) from None
    except Exception:  # torch has no error of its own for files that are torn or something else
        raise _unreadable(file) from None


def _unreadable(file: Path) -> BadWeights:
    return BadWeights(
        f"'{file.name}' is no checkpoint of tensors, or a damaged one. Name a safetensors file, or "
        "a state dict that torch.save wrote."
    )
