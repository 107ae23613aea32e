"""What `privbench show` prints about one name."""

from dataclasses import fields

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from privbench.cli.catalog import PRESETS, Entry, field_notes
from privbench.component import Component, find
from privbench.victims.cards import bundled, card
from privbench.victims.preset import model_preset, read_preset


def sheet(entry: Entry) -> RenderableType:
    """Describe a component or a preset: summary, source, settings with defaults and notes."""
    head = Text(f"{entry.name} ({entry.shelf.removesuffix('s')})", style="bold")
    if entry.shelf in PRESETS:
        content = (
            model_preset(entry.name).model_dump()
            if entry.shelf == "models"
            else read_preset(entry.shelf, entry.name)
        )
        content.pop("summary", None)
        rows = [(key, _plain(value), "") for key, value in content.items() if value is not None]
        return Group(head, Text(entry.summary), _table(rows), *_weights(entry.name), Text(""))
    kind = find(_base(entry.shelf), entry.name)
    home = f"privbench.{entry.shelf}."
    notes: dict[str, str] = {}
    for one in reversed(kind.__mro__):  # a setting may be inherited from a neighbor on the shelf
        if one.__module__.startswith(home):
            notes |= field_notes(entry.shelf, one.__module__.removeprefix(home))
    rows = [
        (field.name, _plain(field.default), notes.get(field.name, ""))
        for field in fields(kind)  # type: ignore[arg-type]
    ]
    facts = [f"Source: {kind.paper}"] if kind.paper else []
    for what, key in (("Needs to know", "needs"), ("Reads the gradient of", "reads")):
        if wanted := sorted(getattr(kind, key, ())):
            facts.append(f"{what}: {', '.join(wanted)}")
    body = [Text(entry.summary), *map(Text, facts)]
    return Group(head, *body, _table(rows) if rows else Text("No settings."), Text(""))


def _weights(name: str) -> list[RenderableType]:
    """Show the card of the weights that come along."""
    if (path := bundled(name)) is None or not (found := card(path)):
        return []
    rows = [(key, _plain(value), "") for key, value in found.items()]
    return [Text(f"Weights that come along: {path.name}", style="bold"), _table(rows)]


def _base(shelf: str) -> type[Component]:
    from privbench.attack import Attack
    from privbench.dataset import Dataset
    from privbench.defense import Defense
    from privbench.evaluation import Evaluation
    from privbench.metric import Metric

    kinds = (Attack, Dataset, Defense, Evaluation, Metric)
    return {kind.shelf: kind for kind in kinds}[shelf]


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "-" if value is None else str(value)


def _table(rows: list[tuple[str, str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for row in rows:
        table.add_row(*map(Text, row))
    return table
