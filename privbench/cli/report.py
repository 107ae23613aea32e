"""The command line's page: everything that the records say, in one file."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privbench.cli.options import Out, console

if TYPE_CHECKING:
    from privbench.records.case import Record
    from privbench.reports.page.write import Card

MATCHING = "Matching"
"""Class that all attacks by gradient matching have in common."""


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(report)


def report(
    out: Out = Path("results"),
    pictures: Annotated[
        bool,
        typer.Option("--pictures", help="Also embed pictures that came from a folder of yours."),
    ] = False,
) -> None:
    """Write report/index.html: finding, leaderboard, figures, gallery, sources, protocol.

    One file that loads nothing from anywhere; figures also as SVG and PNG beside it.
    """
    from privbench.cli.records import records_of
    from privbench.records.store import Store, write
    from privbench.records.utility import UtilityStore

    store = Store(out)
    records = records_of(store)
    screen = console()
    with screen.status("drawing"):
        from privbench.reports.axes import png, svg
        from privbench.reports.board import board
        from privbench.reports.joined import joined
        from privbench.reports.leak_figures import leak_figures
        from privbench.reports.page.finding import finding
        from privbench.reports.page.write import Sources, page
        from privbench.reports.price_figure import price_figures

        utility, tables = list(UtilityStore(out).records()), joined(out)
        sections = board(records, utility, tables)
        pooled = board(records, utility, tables, by=["model", "defense"])
        figures = leak_figures(records, pooled) | price_figures(pooled)
        sources = Sources(
            records, len(utility), sections, figures, cards(records), matching(records)
        )
        folder = out / "report"
        write(folder / "index.html", page(sources, store, pictures=pictures).encode())
        for name, figure in figures.items():
            write(folder / f"{name}.svg", svg(figure, name).encode())
            write(folder / f"{name}.png", png(figure))
    for sentence in finding(sections[0], sources.matching):
        screen.print(sentence, highlight=False)
    screen.print(f"Page: {folder / 'index.html'}", soft_wrap=True)


def matching(records: "Iterable[Record]") -> set[str]:
    """Return the names of the attacks by gradient matching among those of records."""
    from privbench.cli.catalog import entries

    used = {record.case.attack.name for record in records}
    return {e.name for e in entries("attacks") if e.family == MATCHING and e.name in used}


def cards(records: "Iterable[Record]") -> "dict[str, list[Card]]":
    """Return a card for each victim, attack and defense of the records, from their own words."""
    from privbench.cli.catalog import entries
    from privbench.records.case import UNDEFENDED
    from privbench.reports.page.write import Card

    versions: dict[str, dict[str, set[int]]] = {"models": {}, "attacks": {}, "defenses": {}}
    schemes: dict[str, str] = {}
    for record in records:
        case = record.case
        schemes[case.model.name] = str(case.model.settings.get("scheme", ""))
        defenses = [part for part in case.defense if part.name != UNDEFENDED]
        for shelf, some in zip(versions, ([case.model], [case.attack], defenses), strict=True):
            for part in some:
                versions[shelf].setdefault(part.name, set()).add(part.version)
    known = {(shelf, e.name): e for shelf in versions for e in entries(shelf)}
    found: dict[str, list[Card]] = {"Victims": [], "Attacks": [], "Defenses": []}
    for heading, (shelf, names) in zip(found, versions.items(), strict=True):
        for name, numbers in sorted(names.items()):
            entry = known.get((shelf, name))
            paper = entry.paper if entry else ""
            facts = [("Needs", entry.needs)] if entry and entry.needs else []
            if shelf == "models":
                scheme = known.get(("defenses", schemes[name]))
                paper = scheme.paper if scheme else ""
                facts.append(("Scheme", schemes[name]))
                facts += [("Defense in it", scheme.summary)] if scheme else []
            else:
                label = "Version" if len(numbers) == 1 else "Versions"
                facts.append((label, ", ".join(map(str, sorted(numbers)))))
            facts.append(("Source", paper or "none named"))
            summary = entry.summary if entry else "Somebody's own; nothing here describes it."
            found[heading].append(Card(name, summary, [f for f in facts if f[1]]))
    return found
