"""A product: attacks on victims under defenses, on one data set, under one threat model."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from privbench.component import complaint
from privbench.errors import BadSetting, UnknownName
from privbench.records.case import UNDEFENDED
from privbench.victims.preset import parse_settings


class Entry(BaseModel):
    """A name, and settings for it alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    settings: Mapping[str, Any] = {}


def _entries(value: Any) -> Any:
    """Accept `a,b`, [a, b], {name: a, settings: {...}} and a list of such mappings."""
    if isinstance(value, str | Mapping):
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


P = TypeVar("P", bound="Product")


class Product(BaseModel):
    """Each attack on each victim under each defense, on one data set, under one threat model."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

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
    threat: Mapping[str, Any] = {}
    """Settings of the threat model, over which --set wins."""
    weights: str | None = None
    """By default those that come along with the victim, else init."""
    assignments: Annotated[tuple[str, ...], Field(alias="set")] = ()
    """SECTION.KEY=VALUE, as with --set."""
    seconds: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    """What a case takes about, for a forecast where no record of its kind says it."""

    @property
    def indices(self) -> Sequence[int]:
        """Numbers of the pictures."""
        return range(self.images) if isinstance(self.images, int) else self.images

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Assignments, sorted by section."""
        found = parse_settings(self.assignments)
        return found | {"threat": {**self.threat, **found["threat"]}}

    def refuse_attacks(self, why: str) -> None:
        """Raise BadSetting for settings of attacks and of what they meet, where none is run."""
        away = [f"{n}.{key}" for n in ("threat", "attack") for key in self.settings[n]]
        if away or self.batch_size != 1:
            raise BadSetting(f"{why} Leave {' and '.join(away) or 'batch_size'} out.")

    @classmethod
    def read(cls: type[P], content: Mapping[str, Any]) -> P:
        """Return a product; raises BadSetting for what cannot be one."""
        try:
            product = cls.model_validate(content)
        except ValidationError as error:
            raise BadSetting(_explain(error)) from None
        product.check_images()
        return product

    def check_images(self) -> None:
        """Raise BadSetting for pictures that cannot be, or make no whole batches."""
        if not self.indices:
            raise BadSetting("Zero images: name at least one picture, such as --images 4.")
        listed = self.images if isinstance(self.images, tuple) else ()
        if twice := [n for n, times in Counter(listed).items() if times > 1]:
            raise BadSetting(
                f"--images names picture {twice[0]} more than once, and no picture counts twice. "
                "Name each one once."
            )
        count, size = len(self.indices), self.batch_size
        if count % size:
            raise BadSetting(
                f"{count} images do not divide into batches of {size}; "
                f"use --images {max(count // size, 1) * size}."
            )


def fields() -> list[str]:
    """Return what a product's fields are called in a file."""
    return [field.alias or name for name, field in Product.model_fields.items()]


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    field = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "missing":
        return f"Nothing says which {field} to run. Add --{field} NAME or a suite file that does."
    if first["type"] == "too_short":
        return f"Nothing says which {field} to run. Add --{field} NAME."
    if first["type"] == "extra_forbidden" and len(first["loc"]) > 1:
        return str(UnknownName(f"field of {field}", str(first["loc"][-1]), Entry.model_fields))
    if field == "images":
        return (
            "--images is a number from 1 on, or picture numbers such as 3,5,7; "
            f"not {first['input']!r}."
        )
    return complaint("suite", error)


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
