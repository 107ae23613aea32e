"""A suite: which attacks meet which victims, on which pictures."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from privbench.component import complaint
from privbench.errors import BadSetting, UnknownName
from privbench.records.case import UNDEFENDED
from privbench.victims.preset import parse_settings, preset_names, read_preset
from privbench.victims.yaml_text import NotYaml, read_yaml


class Entry(BaseModel):
    """A name, and settings for it alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    settings: Mapping[str, Any] = {}


def _entries(value: Any) -> Any:
    """Accept `a,b`, [a, b] and [{name: a, settings: {...}}]."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        return value
    found: list[Any] = []
    for one in value:
        if isinstance(one, str):
            found += [{"name": part.strip()} for part in one.split(",") if part.strip()]
        else:
            found.append(one)
    return found


def _indices(value: Any) -> Any:
    """Accept 8, "8", "3,5,7" and [3, 5, 7]; one number counts, several name."""
    if isinstance(value, str) and "," in value:
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


Entries = Annotated[tuple[Entry, ...], BeforeValidator(_entries), Field(min_length=1)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Index = Annotated[int, Field(ge=0)]


class Suite(BaseModel):
    """The product of attacks, models and defenses, on one data set, under one threat model."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    summary: str = ""
    attack: Entries
    model: Entries
    defense: Entries = (Entry(name=UNDEFENDED),)
    """Names joined by + are stacked on one update."""
    dataset: str | None = None
    """By default the one that the victim's preset names."""
    data_root: Path | None = None
    images: Annotated[Count | tuple[Index, ...], BeforeValidator(_indices)] = 8
    """How many pictures from the first on, or their numbers."""
    batch_size: Count = 1
    seed: int = 0
    weights: str | None = None
    """By default those that come along with the victim, else init."""
    assignments: Annotated[tuple[str, ...], Field(alias="set")] = ()
    """SECTION.KEY=VALUE, as with --set."""

    @property
    def indices(self) -> Sequence[int]:
        """Numbers of the pictures."""
        return range(self.images) if isinstance(self.images, int) else self.images

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Assignments, sorted by section."""
        return parse_settings(self.assignments)

    @classmethod
    def build(cls, options: Mapping[str, Any], file: str | None = None) -> "Suite":
        """Combine a suite file with options that win over it; assignments add up."""
        base = read_suite(file) if file else {}
        given = {key: value for key, value in options.items() if value not in (None, [], ())}
        given["set"] = [*_listed(base.get("set")), *_listed(given.get("set"))]
        try:
            suite = cls.model_validate(base | given)
        except ValidationError as error:
            raise BadSetting(_explain(error)) from None
        if not suite.indices:
            raise BadSetting("Zero images: name at least one picture, such as --images 4.")
        listed = suite.images if isinstance(suite.images, tuple) else ()
        if twice := [n for n, times in Counter(listed).items() if times > 1]:
            raise BadSetting(
                f"--images names picture {twice[0]} more than once, and no picture counts twice. "
                "Name each one once."
            )
        count, size = len(suite.indices), suite.batch_size
        if count % size:
            raise BadSetting(
                f"{count} images do not divide into batches of {size}; "
                f"use --images {max(count // size, 1) * size}."
            )
        return suite


def _listed(assignments: Any) -> list[Any]:
    if isinstance(assignments, str | None):
        return [assignments] if assignments else []
    if not isinstance(assignments, list | tuple):
        raise BadSetting("`set` is a list of SECTION.KEY=VALUE, such as [attack.steps=500].")
    return list(assignments)


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    field = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "missing":
        return f"Nothing says which {field} to run. Add --{field} NAME or a suite file that does."
    if first["type"] == "too_short":
        return f"Nothing says which {field} to run. Add --{field} NAME."
    if first["type"] == "extra_forbidden" and len(first["loc"]) > 1:
        return str(UnknownName(f"field of {field}", str(first["loc"][-1]), Entry.model_fields))
    if first["type"] == "extra_forbidden":
        known = [f.alias or name for name, f in Suite.model_fields.items()]
        return str(UnknownName("suite field", field, known))
    if field == "images":
        return (
            "--images is a number from 1 on, or picture numbers such as 3,5,7; "
            f"not {first['input']!r}."
        )
    return complaint("suite", error)


def read_suite(name: str) -> dict[str, Any]:
    """Read a bundled suite by name, or a YAML file by path."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        return read_preset("suites", name)
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSetting(
            f"Suite file '{name}' cannot be read ({error.strerror}). Bundled suites: "
            f"{', '.join(preset_names('suites'))}."
        ) from None
    except (NotYaml, UnicodeDecodeError):
        raise BadSetting(
            f"Suite file '{name}' is not YAML. Write lines such as `attack: [mean, pe_ls]`."
        ) from None
    if not isinstance(content, dict):
        raise BadSetting(
            f"Suite file '{name}' holds no mapping; begin with `attack:` and `model:`."
        )
    return {key: value for key, value in content.items() if value is not None}


def distribute(
    section: str, settings: Mapping[str, Any], known: Mapping[str, Iterable[str]]
) -> dict[str, dict[str, Any]]:
    """Give each setting to every component that has it; NAME.KEY addresses one of them.

    Raises UnknownName if none has it.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in known}
    everything = {key for keys in known.values() for key in keys}
    for path, value in settings.items():
        name, dot, key = path.rpartition(".")
        takers = [n for n in known if key in known[n] and (not dot or n == name)]
        if not takers:
            choices = known[name] if dot and name in known else everything
            raise UnknownName(f"setting of {name or section}", key if dot else path, choices)
        for taker in takers:
            found[taker][key] = value
    return found
