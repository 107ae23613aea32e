"""Figures of leakage: against accuracy, and against whatever setting was varied; from records."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

from privbench.records.case import NUMBERS, UNDEFENDED, Case, Record
from privbench.reports.axes import GREY, NORMAL, SMALL, canvas, dress, looks
from privbench.reports.board import LEAK, Section
from privbench.reports.flags import NO_EVIDENCE, evident
from privbench.reports.leaderboard import LEAKS, distinct, rows_of
from privbench.reports.lettering import wrap
from privbench.reports.pictures import per_batch, per_picture
from privbench.reports.stats import mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (7.0, 4.0)
LEGEND = 2.1
"""Inches of the legend at the right."""
FEWEST = 3
"""Values of a setting that make a curve."""
WIDE = 30
"""Ratio of the largest to the smallest value from which on an axis is logarithmic."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""One more than there are colors, so that 42 rows look different."""
LARGEST = 1e300
"""Of a setting: what is no number, or none that can be drawn, makes no curve."""
LEAKAGE = "PSNR, dB (bars: 95 %)"
TOP = 107.0
"""Upper end of the axis of PSNR, above its cap of 100 dB."""
BATCH = "threat.batch_size"

Point = tuple[float, float, float, float]
"""Place, mean, and the ends of its interval (the mean, where there is none)."""


@dataclass(frozen=True)
class Sweep:
    """Curves over one setting; all else of a curve is alike."""

    axis: str
    """Kind and setting, such as `defense.sigma`."""
    of: frozenset[str]
    """Names of the components whose setting it is."""
    curves: Mapping[str, Sequence[Point]]
    floor: float
    counts: frozenset[int]
    bound: float | None = None
    """Batch size at which the tokens outnumber the equations that a width gives."""


def against_accuracy(section: Section) -> "Figure | None":
    """Draw each victim's strongest attack against its accuracy; None for fewer than two.

    The front joins victims that no other one beats in both: more accurate and leaking less. Those
    on which no attack works, or whose flags say that a low leak shows nothing, are no part of it,
    and hollow.
    """
    rows = [row for row in section.rows if "top1" in row and LEAK in row]
    if len(rows) < 2:
        return None
    figure = canvas(*SIZE, layout="constrained")
    axes = figure.subplots()
    for row, look, marker in zip(rows, looks(), cycle(MARKERS), strict=False):
        x, y = row["top1"], row[LEAK]
        why = _doubt(row)
        spread = [
            [[max(0.0, v - row.get(f"{k}_lo", v))], [max(0.0, row.get(f"{k}_hi", v) - v)]]
            for k, v in (("top1", x), (LEAK, y))
        ]
        name = f"{row['model']}, {row['attack']}" + (f" ({why})" if why else "")
        axes.errorbar(
            x,
            y,
            xerr=spread[0],
            yerr=spread[1],
            marker=marker,
            ms=6,
            lw=1,
            color=look["color"],
            mfc="white" if why else look["color"],
            label=wrap(name, LEGEND, SMALL),
            linestyle="none",
        )
    if front := pareto((row["top1"], row[LEAK]) for row in rows if not _doubt(row)):
        axes.plot(*zip(*front, strict=True), color=GREY, lw=1, ls="--", label="front", zorder=0)
    _floor(axes, rows[0]["psnr_floor"])
    title = wrap(f"Leakage against accuracy: {section.title}", SIZE[0] - LEGEND, NORMAL)
    dress(axes, title, "top-1 accuracy, % (bars: 95 %)", LEAKAGE)
    axes.set_ylim(0, TOP)
    _legend(figure)
    return figure


def _doubt(row: Mapping[str, Any]) -> str:
    """Return in words why a low leak shows nothing; empty where it does."""
    if not evident(row):
        return ", ".join(one for one in row["flags"].split(", ") if one in NO_EVIDENCE)
    return "no attack works" if row[LEAK] < row["psnr_floor"] + LEAKS else ""


def pareto(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other beats in both: more of the first, less of the second.

    >>> pareto([(80.0, 90.0), (70.0, 20.0), (75.0, 95.0), (60.0, 30.0)])
    [(70.0, 20.0), (80.0, 90.0)]
    """
    kept: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (-point[0], point[1])):
        if not kept or y < kept[-1][1]:
            kept.append((x, y))
    return kept[::-1]


def sweeps(records: Iterable[Record]) -> list[Sweep]:
    """Return what was varied in at least three steps with all else alike, by the setting's name."""
    curves: dict[str, dict[tuple[Any, ...], dict[float, list[Record]]]] = {}
    for group in rows_of(distinct(records)).values():
        done = [record for record in group if record.status == "done"]
        if not done:
            continue
        facts = _facts(done[0])
        for axis, value in facts.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and -LARGEST < value < LARGEST:
                rest = tuple((k, str(v)) for k, v in sorted(facts.items()) if k != axis)
                curves.setdefault(axis, {}).setdefault(rest, {})[float(value)] = done
    found = []
    for axis, series in sorted(curves.items()):
        enough = {rest: steps for rest, steps in series.items() if len(steps) >= FEWEST}
        if enough:
            found.append(_sweep(axis, enough))
    return found


def _facts(record: Record) -> dict[str, Any]:
    """Return all that tells a row from others, settings one by one."""
    case = record.case
    defense = case.defense[0] if len(case.defense) == 1 else None
    parts = {"model": case.model, "attack": case.attack}
    if defense is not None and defense.name != UNDEFENDED:
        parts["defense"] = defense
    facts: dict[str, Any] = {"names": tuple(part.name for part in parts.values())}
    for kind, part in parts.items():
        facts |= {f"{kind}.{name}": value for name, value in part.settings.items()}
    if defense is None:
        facts["stacked"] = case.defended
    numbers = ("batch_size", *NUMBERS)
    facts |= {f"threat.{name}": value for name, value in case.threat.items() if name in numbers}
    facts["threat"] = str(sorted((k, v) for k, v in case.threat.items() if k not in numbers))
    facts |= {"dataset": case.dataset.label, "weights": case.weights_sha256}
    return facts | {"drawn": str(case.seed), "suite": record.suite}


def _sweep(axis: str, series: Mapping[tuple[Any, ...], Mapping[float, list[Record]]]) -> Sweep:
    curves: dict[str, Sequence[Point]] = {}
    floors: list[float] = []
    counts: set[int] = set()
    bounds: set[float] = set()
    of: set[str] = set()
    for steps in series.values():
        points: list[Point] = []
        for value, done in sorted(steps.items()):
            pictures = per_picture(done, LEAK)
            counts.add(len(pictures))
            mean, low, high = mean_interval(list(per_batch(pictures).values()))
            points.append((value, mean, *((low, high) if low == low else (mean, mean))))
            floors += per_picture(done, LEAK, lambda record: record.floor).values()
        case = next(iter(steps.values()))[0].case
        name = f"{case.attack.name} on {case.model.name}, {case.weights}"
        name = name if name not in curves else f"{name} ({len(curves)})"
        curves[name] = points
        of |= {_owner(case, axis)}
        bounds |= {bound} if (bound := _bound(case.model.settings)) is not None else set()
    bound = min(bounds) if axis == BATCH and len(bounds) == 1 else None
    return Sweep(axis, frozenset(of), curves, sum(floors) / len(floors), frozenset(counts), bound)


def _owner(case: Case, axis: str) -> str:
    """Return whose setting it is: the threat model's belong to nobody."""
    owners = {"model": case.model.name, "attack": case.attack.name}
    owners["defense"] = "+".join(part.name for part in case.defense)
    return owners.get(axis.partition(".")[0], "")


def _bound(settings: Mapping[str, Any]) -> float | None:
    """Return how many pictures' tokens d - 1 equations tell apart: B (N + 1) = d - 1."""
    try:
        tokens = (settings["img_size"] // settings["patch_size"]) ** 2
        return (settings["embed_dim"] - 1) / (tokens + 1)
    except (KeyError, TypeError, ZeroDivisionError):
        return None


def draw(sweep: Sweep) -> "Figure":
    """Draw a curve for each series, with the floor and, for batches, the bound."""
    figure = canvas(*SIZE, layout="constrained")
    axes = figure.subplots()
    for (name, points), look in zip(sweep.curves.items(), looks(), strict=False):
        x, mean, low, high = map(list, zip(*points, strict=True))
        below = [max(0.0, m - one) for m, one in zip(mean, low, strict=True)]
        above = [max(0.0, one - m) for m, one in zip(mean, high, strict=True)]
        axes.errorbar(
            x,
            mean,
            yerr=[below, above],
            marker="o",
            ms=4,
            lw=1.4,
            capsize=2,
            label=wrap(name, LEGEND, SMALL),
            **look,
        )
    _floor(axes, sweep.floor)
    if sweep.bound is not None:
        axes.axvline(sweep.bound, color=GREY, lw=1, ls="-.", label="B (N + 1) = d - 1")
    places = sorted({point[0] for points in sweep.curves.values() for point in points})
    if places[0] > 0 and places[-1] / places[0] > WIDE:
        axes.set_xscale("log")
    else:
        axes.set_xticks(places)
    n = " or ".join(str(count) for count in sorted(sweep.counts))
    what = sweep.axis.partition(".")[2].replace("_", " ")
    owners = " and ".join(sorted(filter(None, sweep.of)))
    what = f"{what} of {owners}" if owners else what
    title = wrap(f"Leakage against {what}, n = {n}", SIZE[0] - LEGEND, NORMAL)
    dress(axes, title, what, LEAKAGE)
    axes.set_ylim(0, TOP)
    _legend(figure)
    return figure


def _floor(axes: "Axes", floor: float) -> None:
    axes.axhline(floor, color=GREY, lw=1, ls=":", label="floor: mean color")


def _legend(figure: "Figure") -> None:
    legend = figure.legend(loc="outside right center", fontsize=SMALL, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)


def leak_figures(records: Sequence[Record], pooled: Sequence[Section]) -> dict[str, "Figure"]:
    """Return all figures by name; pooled sections have a row for each victim and defense."""
    found: dict[str, Figure] = {}
    for number, section in enumerate(pooled):
        drawn = against_accuracy(section)
        if drawn is not None:
            found[f"accuracy-{number + 1}" if "accuracy" in found else "accuracy"] = drawn
    for sweep in sweeps(records):
        found[sweep.axis.replace(".", "-")] = draw(sweep)
    return found
