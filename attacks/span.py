"""Span matching: patches whose tokens fit the spans that the first block's gradients leak.

Linear algebra leaves a few numbers open per patch (`_ambiguity`), among them all of a masked patch.
Each token of the right picture is a root of one small system (`_tokens`) that needs no other token,
no label and no second derivative; so the tokens are found one by one, from a smooth picture or from
random starts, and a root shows itself by its cost. What is found makes the rest easier. Without a
position gradient even the places are open, and are read off the tokens afterwards (`_sweep`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Generator, Tensor

from privbench.attack import Attack, Tick
from privbench.attacks._matching.restricted import Restricted
from privbench.attacks._span.search import Search
from privbench.attacks._span.sweep import Sweep
from privbench.observation import Observation
from privbench.roles import Role
from privbench.threat import Reconstruction

EXACT = 1e-4
"""Distance between the gradients below which there is nothing to polish."""
POLISHED = 1e-6
"""The same, once gradients were matched."""
IDLE = 3
"""Rounds in a row without a new root after which gradients are matched."""
NEARER = 0.1
"""Distance below which matched gradients are a better picture to search from."""
CYCLES = 3
"""Searches, each from the picture that gradients were matched to before."""
MATCHINGS = 4
"""Rounds of matching gradients, each from the roots that the one before makes visible."""


class SpanMatching(Attack):
    """Token by token inside the exact ambiguity, by the spans of the first block; label-free."""

    paper: ClassVar[str] = "privbench; after DAGER, arXiv:2405.15586"
    version: ClassVar[int] = 3
    roles: ClassVar[frozenset[Role]] = frozenset({Role.STEM, Role.TOKENS})
    rounds: Annotated[int, Field(ge=1)] = 10
    """Each starts from what the rounds before have found."""
    starts: Annotated[int, Field(ge=1)] = 128
    """Random starts in a round for patches that share an embedding."""
    steps: Annotated[int, Field(ge=1)] = 30
    """Of Levenberg-Marquardt, at most."""
    polish: Annotated[int, Field(ge=0)] = 220
    """Steps of each restricted gradient matching (`srgm`), where the tokens alone do not do, and
    gradient evaluations to fill seats without a root."""

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Find tokens; where the update is too noisy for that, match gradients in between.

        The answer is the picture whose own gradient is nearest to the shared one.
        """
        search = Search(seen, rng, self.starts, self.steps)
        total = (CYCLES + search.blind) * self.rounds + 1
        if search.blind:
            search = self._sweep(search, lambda done: tick(done, total, float("inf")))
        matching = Restricted(seen, search.open, search.draw)
        best = _Best(
            search.coefficients.clone(), search.found.clone(), matching.at(search.coefficients)
        )
        for cycle in range(CYCLES):
            before = best.distance
            most, idle = 0, 0
            for done in range(self.rounds):
                search.round(done)
                past = (cycle + search.blind) * self.rounds + done + 1
                tick(past, total, best.distance)
                count = int(search.found.sum())
                most, idle = max(most, count), 0 if count > most else idle + 1
                if search.found.all() or idle == IDLE:
                    break
            best = best.or_(search.coefficients, search.found, matching.at(search.coefficients))
            search.project_to_8bit()
            best = best.or_(search.coefficients, search.found, matching.at(search.coefficients))
            if best.distance < EXACT or not len(search.open.basis):
                break
            for coefficients in self._completed(search, matching):
                best = best.or_(coefficients, search.found, matching.at(coefficients))
            search.coefficients = best.coefficients.clone()
            search.project_to_8bit()
            best = best.or_(search.coefficients, search.found, matching.at(search.coefficients))
            if not POLISHED < best.distance < min(NEARER, before / 2):
                break
            search.matched = True
        if best.distance > NEARER and self.polish and len(search.open.basis):
            search.forget()
            for coefficients in self._matched(search, matching):
                tick(total - 1, total, best.distance)
                best = best.or_(
                    coefficients, torch.zeros_like(search.found), matching.at(coefficients)
                )
                if best.distance < POLISHED:
                    break
        tick(total, total, best.distance)
        return self._answer(search, matching, best)

    def _sweep(self, search: Search, tick: Callable[[int], None]) -> Search:
        """Find tokens wherever they stand, as long as there are new ones."""
        sweep, most, idle = Sweep(search), 0, 0
        for done in range(self.rounds if sweep.telling else 0):
            if not sweep.round():
                break
            tick(done + 1)
            count = int(search.found.sum()) + len(sweep.hidden)
            most, idle = max(most, count), 0 if count > most else idle + 1
            if count == len(search.found) or idle == IDLE:
                break
        return sweep.unmask()

    def _completed(self, search: Search, matching: Restricted) -> Iterator[Float[Tensor, "n k"]]:
        """Yield pictures that keep what was found, fill the rest, and come nearer."""
        masked = search.open.masked
        left = (~search.found & masked).nonzero().flatten()
        roots = search.coefficients[search.found & masked]
        if len(left) and len(roots):
            search.coefficients = matching.fill(search.coefficients, left, roots, self.polish)
            yield search.coefficients
        # exact patches are kept: a wrong one beside them would bend them
        every = ~search.found if search.blind else torch.ones_like(search.found)
        for free in (~search.found, every):
            if self.polish and free.any() and search.found.any():
                search.coefficients, _ = matching.descend(
                    search.coefficients, self.polish, _quiet, free
                )
                yield search.coefficients

    def _matched(self, search: Search, matching: Restricted) -> Iterator[Float[Tensor, "n k"]]:
        """Yield pictures by matching gradients first, and looking for roots from there."""
        masked = search.open.masked
        # without a position gradient the sweep was the place for roots
        for again in range(1 if search.blind else MATCHINGS):
            if again and len(left := search.refill()):
                roots = search.coefficients[masked & ~torch.isin(search.every, left)]
                search.coefficients = matching.fill(search.coefficients, left, roots, self.polish)
            search.coefficients, _ = matching.descend(search.coefficients, self.polish, _quiet)
            yield search.coefficients

    def _answer(
        self,
        search: Search,
        matching: Restricted,
        best: "_Best",
    ) -> Reconstruction:
        found, masked, shape = best.found, search.open.masked, search.seen.shape
        report = {
            "open_dimensions": float(best.coefficients.numel()),
            "found": float(found[~masked].double().mean()) if (~masked).any() else 1.0,
            "masked_found": float(found[masked].double().mean()) if masked.any() else 1.0,
            "token_evaluations": float(search.evaluations),
        }
        notes = []
        if shape[0] > 1:
            notes.append("A batch: tokens of all images share the spans; one picture stands in.")
        if not found.all():
            notes.append("Some patches were matched to the gradient, not found as roots.")
        return Reconstruction(
            matching.picture(best.coefficients).clamp(0, 1).expand(shape).clone(),
            best.distance,
            matching.labels,
            matching.calls,
            report,
            tuple(notes),
            draw=search.draw,
        )


@dataclass(frozen=True)
class _Best:
    """The picture whose gradient is nearest so far."""

    coefficients: Float[Tensor, "n k"]
    found: Bool[Tensor, " n"]
    distance: float

    def or_(
        self, coefficients: Float[Tensor, "n k"], found: Bool[Tensor, " n"], distance: float
    ) -> "_Best":
        """Return this, or another one that is nearer."""
        return (
            self
            if self.distance <= distance
            else _Best(coefficients.clone(), found.clone(), distance)
        )


def _quiet(_: float) -> None:
    """Leave the progress to the rounds."""
