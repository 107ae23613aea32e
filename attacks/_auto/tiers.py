"""Members of the ensemble and their budgets, fixed: a change is a new version of `auto`.

Members and settings are the same for every victim and every defense. Whoever finds better ones
raises the version, and old records no longer count.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from privbench.attacks._auto.probe import Probe

Tier = Literal["smoke", "fast", "standard", "full"]
VERSION = 9
REACH = 1e-6
"""Relative squared distance below which gradient matching changes no answer where linear algebra
leaves numbers open: the nearest of 15 runs there came to 3.8e-5, untrained victims among them."""


def always(_: Probe) -> bool:
    """Run wherever its tensors are shared."""
    return True


@dataclass(frozen=True)
class Member:
    """An attack with its settings, when it makes sense."""

    name: str
    tier: Tier
    """The lowest tier that it belongs to."""
    settings: Mapping[str, object] = field(default_factory=dict)
    when: Callable[[Probe], bool] = always
    matches: bool = False
    """Whether it lowers a distance of gradients, and so is left out behind `REACH`."""

    @property
    def label(self) -> str:
        """The name, told apart from the same attack in a higher tier."""
        return self.name if not self.settings else f"{self.name}/{self.tier}"


def _open(one: Probe) -> bool:
    return one.batch == 1 and (one.masked > 0 or not one.positions)


def _few(one: Probe) -> bool:
    exact = one.precision == "exact"  # rounded or pruned gradients span everything
    return exact and one.tokens <= one.room and (one.batch > 1 or _open(one))


def _joint(one: Probe) -> bool:
    several = one.rounds > 1 and one.batch > 1
    return several and one.positions and not one.mixed and _few(one)


def _noisy(one: Probe) -> bool:
    known = one.told or one.gaps or one.low_rank
    return one.batch == 1 and known and one.local_steps == 1


def _later(one: Probe) -> bool:
    return not one.stem


def _loose(one: Probe) -> bool:
    return one.open_dimensions > 0


STAGES: tuple[tuple[str, tuple[Member, ...]], ...] = (
    (
        "analytic",
        (
            Member("rounds", "smoke", when=lambda one: one.rounds > 1 and not _joint(one)),
            Member("april", "smoke"),
            Member("pe_ls", "smoke"),
            Member("pe_watermark", "smoke", when=lambda one: one.masked == 0),
            Member("mean", "smoke"),
            Member("decoder", "smoke", when=_later),
        ),
    ),
    (
        "tokens",
        (
            Member("rounds", "fast", {"starts": 128}, when=_joint),
            Member("peel", "fast", when=lambda one: _few(one) and not (_joint(one) or one.mixed)),
            Member("unmix", "fast", when=lambda one: _few(one) and one.mixed),
        ),
    ),
    (
        "posterior",
        (
            Member("map", "fast", {"steps": 300, "newton": 0}, when=_noisy),
            Member("map", "standard", {"steps": 600}, when=_noisy),
        ),
    ),
    (
        "restricted",
        (
            Member("span", "fast", when=_open),
            Member("srgm", "fast", when=_open, matches=True),
            Member("span", "full", {"rounds": 40, "starts": 512}, when=_open),
            Member("srgm", "standard", {"steps": 2000, "restarts": 4}, when=_loose, matches=True),
        ),
    ),
    (
        "generic",
        (
            Member("gradinv", "fast", matches=True),
            Member("fedavg", "fast", when=lambda one: one.local_steps > 1, matches=True),
            Member("dia", "fast", when=lambda one: one.dropout, matches=True),
            Member("tag", "standard", matches=True),
            Member("april_opt", "standard", matches=True),
            Member("gradvit", "standard", matches=True),
            Member("gradinversion", "standard", matches=True),
            Member("gradinv", "standard", {"steps": 4000, "restarts": 2}, matches=True),
            Member("gradvit", "full", {"steps": 20000}, matches=True),
            Member("gradinv", "full", {"steps": 20000, "restarts": 8}, matches=True),
        ),
    ),
)


def members(tier: Tier, found: Probe) -> list[list[Member]]:
    """Return, stage by stage, whom a tier sends against what was probed."""
    return [[one for one in stage if one.when(found)] for stage in _allowed(tier)]


def possible(tier: Tier) -> tuple[str, ...]:
    """Return the names of all whom a tier may send, whatever is probed."""
    return tuple(sorted({one.name for stage in _allowed(tier) for one in stage}))


def _allowed(tier: Tier) -> list[list[Member]]:
    order = get_args(Tier)
    tiers = order[: order.index(tier) + 1]
    return [[one for one in stage if one.tier in tiers] for _, stage in STAGES]
