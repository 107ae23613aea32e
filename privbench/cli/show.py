"""What `privbench show` prints about one name."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from privbench.cli.catalog import NEEDS, PRESETS, Entry
from privbench.cli.settings import base, plain, settings
from privbench.component import find
from privbench.victims.cards import bundled, card
from privbench.victims.preset import model_preset, read_preset

HEADINGS = dict(zip(NEEDS, ("Needs to know", "Needs of the victim"), strict=True))


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
        rows = [(key, plain(value), "") for key, value in content.items() if value is not None]
        return Group(head, Text(entry.summary), _table(rows), *_weights(entry.name), Text(""))
    kind = find(base(entry.shelf), entry.name)
    rows = [(one.name, one.default, one.note) for one in settings(kind)]
    facts = [f"Source: {kind.paper}"] if kind.paper else []
    for key, heading in HEADINGS.items():
        if wanted := sorted(getattr(kind, key, ())):
            facts.append(f"{heading}: {', '.join(wanted)}")
    if answers := getattr(kind, "answered_by", ()):
        facts.append(f"Attacks made for it: {', '.join(answers)}")
    body = [Text(entry.summary), *map(Text, facts)]
    return Group(head, *body, _table(rows) if rows else Text("No settings."), Text(""))


def _weights(name: str) -> list[RenderableType]:
    """Show the card of the weights that come along."""
    if (path := bundled(name)) is None or not (found := card(path)):
        return []
    rows = [(key, plain(value), "") for key, value in found.items()]
    return [Text(f"Weights that come along: {path.name}", style="bold"), _table(rows)]


def _table(rows: list[tuple[str, str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for row in rows:
        table.add_row(*map(Text, row))
    return table
