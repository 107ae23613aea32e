"""Presets in YAML, and settings given as section.key=value."""

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from privbench.component import complaint
from privbench.errors import BadSetting, UnknownName
from privbench.training.recipe import Recipe
from privbench.victims.yaml_text import NotYaml, read_yaml

SECTIONS = ("attack", "dataset", "defense", "model", "threat")
OWN = re.compile(r"(?P<file>.+\.py):(?P<factory>[A-Za-z_]\w*)")
"""Form of the name of a user's own model."""
FREE = ("mean", "std", "global_pool")
"""Settings of every model that no preset needs to hold: pixels, and what the head sees."""
OUTSIDE = ("img_size", "num_classes", *FREE, "scheme")
"""Settings of a model that no preset describes: one of timm's, or the user's own."""


class Preset(BaseModel):
    """A victim: its backbone, its positional scheme, what its pixels are normalized by."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    summary: str
    architecture: Mapping[str, int] = {}
    """Arguments of timm's VisionTransformer; empty with a timm name."""
    timm: str | None = None
    """Name of a timm model."""
    own: bool = False
    """Whether a function of the user's builds it."""
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    scheme: str = "vanilla"
    """The positional defense."""
    settings: Mapping[str, Any] = {}
    """Of the scheme."""
    init_seed: int = 0
    position_std: float = 0.02
    """Of the position table before training; MJP's released code starts its own at 1."""
    dataset: str = "photos"
    """Attacked unless the user names another."""
    pretrained: str | None = None
    """Name of the timm model whose published weights fit, for --weights pretrained."""
    control: str | None = None
    """The undefended victim to compare with."""
    recipe: Recipe = Recipe()
    """How `privbench train` trains it."""

    @model_validator(mode="after")
    def _normalized(self) -> "Preset":
        if self.described and (self.mean is None or self.std is None):
            raise ValueError("mean and std are missing. Give three numbers each.")
        return self

    @property
    def described(self) -> bool:
        """Whether it says what the network is; else timm or the user's function does."""
        return self.timm is None and not self.own

    def initial(self) -> dict[str, int | float]:
        """Return the settings of what the weights are before training."""
        return {"init_seed": self.init_seed, "position_std": self.position_std}


def preset_names(kind: str) -> list[str]:
    """Names of the presets of a kind: models or suites."""
    folder = files(f"privbench.configs.{kind}")
    entries = (entry.name for entry in folder.iterdir())
    return sorted(name.removesuffix(".yaml") for name in entries if name.endswith(".yaml"))


def read_preset(kind: str, name: str, below: Sequence[str] = ()) -> dict[str, Any]:
    """Read a bundled YAML file; `like: NAME` in it takes over all that it doesn't say.

    Below are the presets that are like it. Raises UnknownName or BadSetting.
    """
    if name not in (known := preset_names(kind)):
        raise UnknownName(kind.removesuffix("s"), name, known)
    if name in below:
        raise BadSetting(f"Preset {name} is like itself. Change `like:` in {below[-1]}.yaml.")
    try:
        file = files(f"privbench.configs.{kind}") / f"{name}.yaml"
        content = read_yaml(file.read_text(encoding="utf-8"))
    except (NotYaml, UnicodeDecodeError):
        raise BadSetting(
            f"Preset {name}.yaml is not YAML. Write lines such as `summary: A small ViT.`"
        ) from None
    if not isinstance(content, dict):
        raise BadSetting(f"Preset {name}.yaml holds no mapping; begin with `summary:`.")
    if (parent := content.pop("like", None)) is not None:
        return read_preset(kind, str(parent), [*below, name]) | content
    return content


def is_own(name: str) -> bool:
    """Say whether a model's name has the form FILE.py:FACTORY."""
    return OWN.fullmatch(name) is not None


def own_label(name: str) -> str:
    """Return the name of a user's own model without the file's place, as records hold it."""
    match = OWN.fullmatch(name)
    return name if match is None else f"{Path(match['file']).name}:{match['factory']}"


def model_preset(name: str) -> Preset:
    """Return the preset of a victim; `timm:NAME` is any vision transformer of timm's.

    FILE.py:FACTORY is the user's own: what that function returns.
    """
    if name.startswith("timm:"):
        return Preset(summary=f"timm's {name[5:]}, undefended.", timm=name[5:], control=name)
    if is_own(name):
        return Preset(summary="A model of the user's own.", own=True, control=own_label(name))
    try:
        return Preset.model_validate(read_preset("models", name))
    except ValidationError as error:
        raise BadSetting(complaint(f"preset {name}", error)) from None


def parse_settings(
    assignments: Iterable[str], sections: Sequence[str] = SECTIONS
) -> dict[str, dict[str, Any]]:
    """Sort `section.key=value` by section; values are read as YAML.

    >>> parse_settings(["attack.steps=500", "threat.knows=labels"])["attack"]
    {'steps': 500}
    """
    found: dict[str, dict[str, Any]] = {section: {} for section in sections}
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        section, dot, key = path.strip().partition(".")
        if not equals or not dot or not key:
            raise BadSetting(
                f"--set reads SECTION.KEY=VALUE, such as attack.steps=500; not '{assignment}'."
            )
        if section not in sections:
            raise UnknownName("section of --set", section, sections)
        try:
            found[section][key] = read_yaml(value)
        except NotYaml:
            raise BadSetting(
                f"--set {path}: '{value}' is not a YAML value; put it in quotes."
            ) from None
    return found
