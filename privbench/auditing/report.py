"""Writes an audit: audit.json, candidates as PNG, and a page that needs nothing else."""

import base64
import html
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from privbench.auditing.audit import Audit
from privbench.auditing.members import Row
from privbench.records.files import write
from privbench.records.picture import draw

STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "td,th{text-align:left;padding:.2em .8em .2em 0;vertical-align:top}"
    "img{image-rendering:pixelated;min-width:128px;margin-right:1em}"
)


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
    say = html.escape
    lines = "".join(
        f"<tr><td>{say(row.name)}</td><td>{say(row.needs)}</td><td>{say(row.had)}</td>"
        f"<td>{say(distance(row))}</td></tr>"
        for row in found.attacks
    )
    images = "".join(
        f'<figure><img alt="{say(name)}" src="data:image/png;base64,'
        f'{base64.b64encode(png).decode()}"><figcaption>{say(name)}</figcaption></figure>'
        for name, png in drawn.items()
    )
    items = {"Notes": found.notes, "What would help": found.advice}
    lists = "".join(
        f"<h2>{say(heading)}</h2><ul>{''.join(f'<li>{say(one)}</li>' for one in texts)}</ul>"
        for heading, texts in items.items()
        if texts
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{say(title)}</title>'
        f"<style>{STYLE}</style><h1>{say(title)}</h1><p><strong>{say(found.sentence)}</strong></p>"
        "<h2>Attacks</h2><table><tr><th>attack</th><th>needs</th><th>had it</th>"
        f"<th>distance</th></tr>{lines}</table><h2>Candidates</h2>{images}{lists}</html>"
    )


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
