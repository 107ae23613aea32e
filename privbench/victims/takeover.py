"""The command that takes a plain checkpoint over, for those who hand it to --weights at once."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from privbench.errors import PrivbenchError
from privbench.victims.advice import suggest
from privbench.victims.checkpoint_file import choose
from privbench.victims.checkpoint_names import merge_class_row, rename
from privbench.victims.facts import words
from privbench.victims.fit import differences, resampled
from privbench.victims.heads import draw
from privbench.vit import ViT


def takeover(path: Path, vit: ViT, name: str, given: Mapping[str, Any]) -> str:
    """Say how to import a file that does not have this package's names; it is tried on shapes."""
    try:
        named = rename(choose(path).found, vit.state_dict())
    except PrivbenchError as error:
        return str(error)
    found = merge_class_row(vit, named.tensors)
    model, settings, flags = name, dict(given), ""
    if differences(vit, resampled(vit, found)):
        if not differences(vit, resampled(vit, draw(found, vit))) and ViT.HEAD not in found:
            flags = " --new-head"
        elif (fitting := suggest(name, given, found)) is not None:
            model, extra = fitting
            settings = {**given, **extra} if model == name else extra
    sets = f" {words(settings)}" if settings else ""
    out = f"{model.replace(':', '_')}-{path.stem}.safetensors"
    target = f"--model {shlex.quote(model)}{sets}"
    return (
        f"Take it over with `privbench import-weights {shlex.quote(str(path))} {target}{flags}`, "
        f"then use `--weights {shlex.quote(out)} {target}`."
    )
