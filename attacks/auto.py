"""AutoGIA: a fixed, parameter-free ensemble, in the spirit of AutoAttack (arXiv:2003.01690).

It probes the update, runs members stage by stage from closed forms to generic matching, and hands
in the candidate whose own gradient is nearest to the shared one; where none comes near and errors
are known, the likeliest by the first layer alone (`_auto/first_layer`). Where the picture is exact
it proves it without the truth and stops; where a candidate is nearer than gradient matching comes,
it leaves that out. An adversarial example certifies itself, a reconstruction seldom does: so all
candidates go along, and the scorer tells what the best of them was worth.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Generator

from privbench.attack import Attack, Tick, check
from privbench.attacks._auto.first_layer import FirstLayer, first_layer
from privbench.attacks._auto.probe import Probe, probe
from privbench.attacks._auto.tiers import REACH, VERSION, Member, Tier, members, possible
from privbench.attacks._auto.verdict import Distance, Verdict
from privbench.attacks._order.pixels import put_back
from privbench.attacks._order.reassembly import moves
from privbench.attacks._update.reading import mask, placeless
from privbench.attacks._update.rounds import joined
from privbench.component import make
from privbench.errors import PrivbenchError
from privbench.observation import Observation
from privbench.threat import Draw, Images, Reconstruction

PARTS = 100
"""Steps of the progress that each member has."""
ARRANGEMENTS = 200
"""Tried in re-assembly."""
NEAR = 2 - 2**0.5
"""Distance at which the two gradients' angle is 45 degrees: below it, more than half of the update
is explained; above, a network is far from linear, and which gradient is nearer tells little."""
APART = 20.0
"""Decibels between two candidates below which they are different pictures."""


@dataclass(frozen=True)
class Candidate:
    """What one member answered."""

    name: str
    answer: Reconstruction
    distance: Distance
    proved: bool = False
    surprise: float | None = None
    """By the first layer, where its errors are known."""


class Auto(Attack):
    """Fixed ensemble of closed forms, restricted and generic matching; AutoAttack's counterpart."""

    paper: ClassVar[str] = "privbench; after arXiv:2003.01690"
    version: ClassVar[int] = VERSION
    any_steps: ClassVar[bool] = True
    tier: Tier = "fast"
    """smoke: closed forms; fast: about 2 000 gradients; standard: 25 000; full: 240 000."""

    def nested(self) -> tuple[str, ...]:
        """Name the members of the tier."""
        return possible(self.tier)

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Return the best candidate by what the update says; the first of equals."""
        seen = joined(seen)
        found = probe(seen)
        stages = members(self.tier, found)
        count = sum(map(len, stages))
        # seeds by place, so that a member that does not run leaves the others' draws alone
        seeds = iter(torch.randint(2**62, (count + 2,), generator=rng).tolist())
        verdict = Verdict(seen, Generator().manual_seed(next(seeds)))
        arranging = Generator().manual_seed(next(seeds))
        layer = first_layer(seen)
        met: list[Candidate] = []
        notes: list[str] = []
        done, calls = 0, 0
        for stage in stages:
            for member in stage:
                watched, seed = _Watched(tick, done, count), next(seeds)
                done += 1
                if member.matches and _reached(met, found):
                    continue
                one = _try(member, seen, Generator().manual_seed(seed), watched, notes)
                if one is None:
                    continue
                calls += one.gradient_calls
                met.append(_judged(verdict, layer, member.label, one))
            if any(one.proved for one in met):
                break
        best = chosen(met, layer)
        answer = best.answer
        images, moved = answer.images, 0.0
        draw = answer.draw if isinstance(answer.draw, Draw) else mask(seen)
        loose = placeless(seen, draw) & (not answer.placed)
        if not answer.placed and (moves(seen, arranging).any() or loose.any()):
            placed = put_back(seen, images, arranging, ARRANGEMENTS, lambda *_: None, draw)
            images, moved = placed.images, placed.moved
        tick(PARTS * count, PARTS * count, best.distance.apart)
        report = {f"distance_{one.name}": one.distance.apart for one in met}
        report |= {f"surprise_{one.name}": one.surprise for one in met if one.surprise is not None}
        return Reconstruction(
            images,
            best.distance.apart,
            verdict.labels(answer),
            calls + verdict.calls,
            {
                **found.facts(),
                **report,
                "floor": best.distance.floor,
                "certified": float(best.proved),
                "moved": moved,
            },
            (*answer.warnings, *notes, *_doubts(met, best, int(loose.sum()), found)),
            members={one.name: one.answer.images for one in met},
            choice=best.name,
            draw=answer.draw,
        )


def _reached(met: list[Candidate], found: Probe) -> bool:
    """Whether a candidate is nearer than gradient matching comes; of noise nobody knows."""
    near = any(one.distance.apart < REACH and one.distance.floor == 0 for one in met)
    return near and found.open_dimensions > 0


class _Watched:
    """A member's progress as a part of the whole; remembers whether the listener ended the run."""

    def __init__(self, tick: Tick, before: int, count: int) -> None:
        self.tick, self.before, self.count = tick, before, count
        self.stopped = False

    def __call__(self, done: int, steps: int, objective: float) -> None:
        at = PARTS * self.before + PARTS * done // max(steps, 1)
        try:
            self.tick(at, PARTS * self.count, objective)
        except BaseException:
            self.stopped = True
            raise


def _try(
    member: Member, seen: Observation, rng: Generator, tick: _Watched, notes: list[str]
) -> Reconstruction | None:
    """Run a member; None where the update or the model is not for it, or where it fails."""
    try:
        attack = make(Attack, member.name, member.settings)
        given = seen.update.tensors
        check(attack, member.name, seen.knows, given, seen.model.vit, seen.protocol)
        return attack.reconstruct(seen, rng, tick)
    except PrivbenchError:  # its own refusal, in a sentence for those who asked for it alone
        return None
    except Exception as error:
        if tick.stopped:
            raise
        notes.append(f"Member {member.label} failed ({type(error).__name__}: {error}).")
        return None


def chosen(met: Sequence[Candidate], layer: FirstLayer | None) -> Candidate:
    """Return what is proved; else what explains the update best, or is likeliest where none does.

    Of candidates that explain more than half of the update, those that the first layer's equations
    rule out do not count. The gain by fitting all unknowns to these is no evidence.
    """
    proved = [one for one in met if one.proved]
    near = [one for one in met if one.distance.apart < NEAR]
    if proved or layer is None:
        return min(proved or met, key=lambda one: one.distance.apart)
    least = min(_surprise(one) for one in near or met)
    if not near:
        return min(met, key=_surprise)
    left = [one for one in near if _surprise(one) <= least + layer.slack]
    return min(left, key=lambda one: one.distance.apart)


def _surprise(one: Candidate) -> float:
    return float("inf") if one.surprise is None else one.surprise


def _judged(
    verdict: Verdict, layer: FirstLayer | None, name: str, answer: Reconstruction
) -> Candidate:
    known = verdict.labels(answer)
    distance = verdict.distance(answer.images, known, answer.draw)
    if distance.at_floor and distance.floor == 0:
        proved = verdict.proof(answer.images, known, answer.draw)
        if proved is not None:
            sure = replace(answer, images=proved)
            return Candidate(name, sure, verdict.distance(proved, known, answer.draw), proved=True)
    surprise = None if layer is None else layer.surprise(answer.images)
    return Candidate(name, answer, distance, surprise=surprise)


def _doubts(met: list[Candidate], best: Candidate, loose: int, found: Probe) -> list[str]:
    """Say what keeps the answer from being evidence, in AutoAttack's manner."""
    if best.proved:
        return []
    doubts, explained = [], [one for one in met if one.distance.at_floor]
    others = [
        one.name for one in explained if _decibels(one.answer.images, best.answer.images) < APART
    ]
    if best.distance.at_floor and others:
        doubts.append(
            f"The objective is at the noise floor but members disagree ({best.name} and "
            f"{', '.join(others)}): this update does not identify the picture."
        )
    if not explained:
        doubts.append(
            "No member explains the update down to its noise: this is a lower bound on what it "
            "gives away, and a higher tier may find more."
        )
    if found.tokens > found.room:
        doubts.append(
            f"Tokens of the batch: {found.tokens}, more than the width less one, {found.room}. Not "
            f"by linear algebra, which takes a batch of at most {found.largest_batch} from this "
            "model."
        )
    if best.distance.apart == float("inf"):
        doubts.append("The labels are not readable, so candidates could not be compared.")
    if loose > 1:
        doubts.append("Patches without a position: the order is a guess by their seams.")
    return doubts


def _decibels(one: Images, other: Images) -> float:
    return float(-10 * torch.log10((one - other).square().mean().clamp(min=1e-30)))
