"""A suite: which attacks meet which victims, on which pictures, in one block or several."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from privbench.errors import BadSetting, UnknownName
from privbench.records.asked import DIGITS
from privbench.running.product import P, Product, fields
from privbench.victims.preset import preset_names, read_preset
from privbench.victims.yaml_text import NotYaml, read_yaml

SEVERAL = ("seed", "threat", "batch_size")
"""Fields that may list several values, each of which makes a product."""
UNRUN = ("summary", "seconds")
"""Fields that decide no result, and so are no part of what a version stands for."""
HARMLESS = ("data_root",)
"""Options with which a suite is still the same one."""
MOST = 1000
"""Products of one suite."""


@dataclass(frozen=True)
class Suite:
    """Products, and the name and version under which their rows stand together."""

    products: tuple[Product, ...]
    label: str = ""
    """Empty for what has no version, or was changed on the command line."""

    @classmethod
    def build(cls, options: Mapping[str, Any], file: str | None = None) -> "Suite":
        """Combine a suite file with options that win over it; assignments add up."""
        content, given = read_suite(file) if file else {}, _given(options)
        version = content.get("version")
        if version is not None and (type(version) is not int or version < 1):
            raise BadSetting(
                f"suite: 'version' is a whole number from 1 on, not {version!r}; raise it with "
                "each change of what runs."
            )
        found = tuple(Product.read(one) for one in expand(content, given))
        if "attack" in given:  # the file says what its own attacks take
            found = tuple(one.model_copy(update={"seconds": None}) for one in found)
        if not file or not version or given.keys() - {*HARMLESS}:
            return cls(found)
        return cls(found, label(Path(file).stem, version, content))


def single(kind: type[P], options: Mapping[str, Any], file: str | None = None) -> P:
    """Return the one product of options and a suite file; raises BadSetting where it has more."""
    found = expand(read_suite(file) if file else {}, _given(options))
    if len(found) > 1:
        raise BadSetting(
            f"Suite '{file}' has {len(found)} products of blocks, seeds, threat models or batch "
            "sizes, and this command takes one. Name a file with one."
        )
    return kind.read(found[0])


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value not in (None, [], ())}


def label(name: str, version: int, content: Mapping[str, Any]) -> str:
    """Return name and version, and digits of a digest, so that no change goes unseen."""
    digest = hashlib.sha256(repr(_deciding(content)).encode()).hexdigest()[:DIGITS]
    return f"{name} {version} [{digest}]"


def _deciding(content: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the fields that decide a result, in an order that is not the file's."""
    blocks = [_deciding(one) for one in content.get("blocks", ())]
    kept = {k: v for k, v in content.items() if k not in UNRUN} | {"blocks": blocks}
    return sorted((name, value) for name, value in kept.items() if value != [])


def expand(content: Mapping[str, Any], options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what each product of a suite is made of, all of the first seed first.

    A block has the fields of the whole file but for those that it says itself; options win over
    both. Raises BadSetting.
    """
    base = {k: v for k, v in content.items() if k not in ("summary", "version", "blocks")}
    known = ["summary", "version", "blocks", *fields()]
    UnknownName.refuse("suite field", map(str, {**base, **options}), known)
    found: list[tuple[int, dict[str, Any]]] = []
    for block in _blocks(content):
        UnknownName.refuse("field of a block", map(str, block), fields())
        merged = {**base, **block, **options}
        merged["set"] = [a for part in (base, block, options) for a in _listed(part.get("set"))]
        listed = {name: _several(name, merged[name]) for name in SEVERAL if name in merged}
        if len(found) + prod(map(len, listed.values())) > MOST:
            raise BadSetting(
                f"A suite of more than {MOST} products of seeds, threat models and batch sizes. "
                "List fewer, or write several suites."
            )
        found += _products(merged, listed)
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def _blocks(content: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    blocks = content.get("blocks", [{}])
    whole = isinstance(blocks, list) and blocks and all(isinstance(b, Mapping) for b in blocks)
    if not whole:
        raise BadSetting(
            "`blocks` is a list of mappings, such as [{attack: pe_ls, images: 100}, {attack: auto}]"
            f", not {blocks!r}."
        )
    return [{k: v for k, v in block.items() if v is not None} for block in blocks]


def _products(
    merged: Mapping[str, Any], listed: Mapping[str, Sequence[Any]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the place of each product's seed, and the product."""
    for values in product(*map(enumerate, listed.values())):
        chosen = dict(zip(listed, values, strict=True))
        place = chosen["seed"][0] if "seed" in chosen else 0
        yield place, {**merged, **{name: value for name, (_, value) in chosen.items()}}


def _several(name: str, value: Any) -> list[Any]:
    """Return the values of a field that may list some, each once."""
    found = value if isinstance(value, list | tuple) else [value]
    if not found:
        raise BadSetting(f"suite: '{name}' lists nothing. Name a value, or leave the field out.")
    if len(found) <= MOST and any(one in found[:at] for at, one in enumerate(found)):
        raise BadSetting(f"suite: '{name}' lists a value twice. Name each once.")
    return list(found)


def _listed(assignments: Any) -> list[Any]:
    if isinstance(assignments, str | None):
        return [assignments] if assignments else []
    if not isinstance(assignments, list | tuple):
        raise BadSetting("`set` is a list of SECTION.KEY=VALUE, such as [attack.steps=500].")
    return list(assignments)


def read_suite(name: str) -> dict[str, Any]:
    """Read a bundled suite by name, or a YAML file by path."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if name not in preset_names("suites") and path.is_file():
            raise BadSetting(
                f"Suite file '{name}' is there, and a suite is a .yaml by its name. Rename it, or "
                f"name a bundled one: {', '.join(preset_names('suites'))}."
            )
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
