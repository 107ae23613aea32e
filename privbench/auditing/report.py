"""Writes an audit: audit.json, candidates as PNG, and a page that needs nothing else."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from privbench.auditing.audit import Audit
from privbench.auditing.members import Row
from privbench.records.files import write
from privbench.records.picture import draw

PAGE = "page.html"
"""Template of the page, beside this file."""


def save(found: Audit, folder: Path, title: str) -> dict[str, Path]:
    """Write all files below a folder and return their places; raises Unwritable."""
    pictures = {"best": found.images} | dict(found.members)
    drawn = {name: draw(images) for name, images in pictures.items()}
    places = {name: folder / f"{file_name(name)}.png" for name in drawn}
    for name, path in places.items():
        write(path, drawn[name])
    text = json.dumps(_finite(facts(found, title)), indent=1)
    write(folder / "audit.json", text.encode())
    write(folder / "index.html", page(found, title, drawn).encode())
    return {**places, "audit": folder / "audit.json", "page": folder / "index.html"}


def file_name(member: str) -> str:
    """Return a member's name as a file's."""
    return re.sub(r"[^\w-]", "-", member)


def facts(found: Audit, title: str) -> dict[str, Any]:
    """Return all of an audit but its pictures."""
    kept = {
        key: getattr(found, key)
        for key in ("kind", "sentence", "pictures", "notes", "advice", "distance", "flat")
    }
    return {
        "title": title,
        **kept,
        "seconds": round(found.seconds, 2),
        "labels": found.labels,
        "attacks": [asdict(row) for row in found.attacks],
        "score": None if found.score is None else asdict(found.score),
    }


def page(found: Audit, title: str, drawn: Mapping[str, bytes]) -> str:
    """Return an HTML page with the pictures inside; every text is escaped."""
    return _template().render(
        found=found,
        title=title,
        pictures={name: base64.b64encode(png).decode() for name, png in drawn.items()},
    )


@cache
def _template() -> Template:
    pages = Environment(
        loader=PackageLoader("privbench", "auditing"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    pages.filters["distance"] = distance
    return pages.get_template(PAGE)


def distance(row: Row) -> str:
    """Return a row's distance as text."""
    return "did not run" if row.distance is None else f"{row.distance:.2g}"


def _finite(value: Any) -> Any:
    """Return what JSON can hold: no infinity."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
