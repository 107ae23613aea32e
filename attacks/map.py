"""Most probable picture: all entries of the update, weighted by their known errors, and a prior.

The noise of a million entries averages out over three thousand pixels, if all of them are used.
From a closed form's picture L-BFGS goes down the posterior, in coordinates in which the prior is
round, then in those in which the posterior itself is, by its exact Gauss-Newton matrix. Where that
picture explains too little of the update, it is first brought nearer without the way back through
the network (`_map/spans`): layers of one block, of two, of all. Masked patches are looked for as a
set, and put in order afterwards.
"""

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Generator, Tensor

from privbench.attack import Attack, Tick, check
from privbench.attacks._map.descent import Step, descend, newton_coordinates
from privbench.attacks._map.order import arranged
from privbench.attacks._map.posterior import Posterior
from privbench.attacks._map.spans import Spans
from privbench.attacks._map.stages import OF_A_SET, STAGES, Stages, schedule
from privbench.attacks._update.reading import labels, mask
from privbench.component import make
from privbench.errors import PrivbenchError, UnsupportedModel
from privbench.observation import Observation
from privbench.threat import Draw, Images, Randomness, Reconstruction
from privbench.vit import ViT

MOST = 2**13
"""Unknowns whose square matrices are built: 512 MB each."""
ARRIVED = 1.02
"""Cost per entry up to which noise explains what is left: of 10,000 entries it varies by 0.014."""
FAR = 0.1
"""Share of the update that a first picture may leave unexplained: 0.01 to 0.07 at noise of 1 %,
from where the way down arrives, 0.04 to 0.2 at 2 % and 0.1 to 0.6 at 5 % (four pictures each); at
10 % 0.3 and 0.9, and from the latter it leads nowhere (two pictures; trained `vit_vanilla`)."""


class MaximumAPosteriori(Attack):
    """Most probable picture given every entry, its known error and a Gaussian prior; slow."""

    version: ClassVar[int] = 4
    paper: ClassVar[str] = "privbench; prior and likelihood as in arXiv:2111.04706"
    start: Literal["pe_ls", "span", "mean"] = "pe_ls"
    """Attack whose picture it begins with; the mean color where that one cannot run."""
    spans: Annotated[int, Field(ge=0)] = 70
    """Evaluations a stage on what layers' inputs span, where the start is too far; 0: none."""
    steps: Annotated[int, Field(ge=1)] = 600
    """Evaluations in the prior's coordinates."""
    newton: Annotated[int, Field(ge=0)] = 250
    """Evaluations in the posterior's, whose matrix takes two backward passes a pixel; 0: none."""
    damping: Annotated[float, Field(ge=0)] = 1e3
    """How much more the prior counts in that matrix: it holds steps back."""

    def nested(self) -> tuple[str, ...]:
        """Name the attack that it begins with."""
        return (self.start,)

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Go down the posterior; raises UnsupportedModel on a picture too large for its matrix."""
        vit = seen.model.vit
        if seen.shape[0] * 3 * vit.side**2 > MOST:
            raise UnsupportedModel(
                f"map builds matrices over all pixels of a batch, and {seen.shape[0]} of "
                f"{vit.side} px are too many. Choose a smaller batch, a victim of at most "
                f"{int((MOST / 3) ** 0.5)} px, or another attack."
            )
        images, draw, calls = self._begin(seen, rng)
        known = labels(seen)
        posterior = Posterior(seen, draw)
        at = posterior.join(images, _slopes(posterior, images, known))
        planned = schedule(posterior, _masked(posterior) is not None)
        stages = self.spans * len(planned)
        total = stages + self.steps + self.newton + posterior.pixels * bool(self.newton)
        done = 0

        def step(misfit: float) -> None:
            nonlocal done
            done = min(done + 1, total - 1)
            tick(done, total, misfit)

        cost, _, first = posterior.value(at.double())
        report = {"misfit_first": first}
        # a blank picture fits no sizes to what comes back, unless they are told for each entry
        flat = planned in (STAGES, OF_A_SET) and torch.equal(images, vit.mean.expand_as(images))
        if self.spans and first > FAR * posterior.whole and not flat:
            nearer, used = self._approach(posterior, images, planned, step)
            other = posterior.join(nearer, _slopes(posterior, nearer, known))
            below, _, left = posterior.value(other.double())
            report["misfit_spans"] = left
            calls += used + 1
            if below < cost:
                at = other
            at = arranged(seen, posterior, at, rng)
        done = stages
        at, misfit, used = descend(posterior, at, posterior.spread(at), self.steps, step)
        calls += used + 1
        report["misfit_prior"] = misfit
        if self.newton:
            matrix = newton_coordinates(
                posterior, at, self.damping, lambda n: tick(min(done + n, total - 1), total, misfit)
            )
            at, misfit, used = descend(posterior, at, matrix, self.newton, step)
            calls += used + 2 * posterior.pixels
        at, warnings = arranged(seen, posterior, at, rng), []
        if misfit > ARRIVED:
            warnings.append(
                "The most probable picture was not reached: the update's entries are off by more "
                "than their noise."
            )
        tick(total, total, misfit)
        picture = posterior.split(at)[0].clamp(0, 1)
        report["misfit"] = misfit
        return Reconstruction(
            picture.clone(), misfit, known, calls, report, tuple(warnings), draw=None
        )

    def _approach(
        self, posterior: Posterior, images: Images, planned: Stages, step: Step
    ) -> tuple[Images, int]:
        """Return a picture whose layers' inputs span what was shared, and the evaluations.

        Once masked patches are about to be known, where they stand says nothing of them any more:
        else the prior bends them to what stands beside the wrong place.
        """
        at, calls = images.flatten(), 0
        masked = _masked(posterior)
        loose = posterior if masked is None else posterior.without_seats(masked)
        for number, (least, blocks) in enumerate(planned):
            early = number == 0 or blocks == 0
            prior = posterior if early else loose
            spans = Spans(prior, least)
            spans.use(blocks)
            if not spans.used:
                continue
            now = at.view(images.shape)
            spans.fit(now)
            # the stem's own equations are linear: Newton's step, or nearly
            linear = blocks == 0 or (planned is OF_A_SET and not early)
            coordinates = (
                spans.coordinates(now) if linear else torch.block_diag(*[prior.half] * len(images))
            )
            at, _, used = descend(spans, at, coordinates, self.spans, step)
            calls += used
        return at.view(images.shape), calls

    def _begin(self, seen: Observation, rng: Generator) -> tuple[Images, Randomness | None, int]:
        """Return a first picture, the defense's draw as far as it is known, and the cost."""
        attack, draw = make(Attack, self.start, {}), mask(seen)
        try:
            given = seen.update.tensors
            check(attack, self.start, seen.knows, given, seen.model.vit, seen.protocol)
            found = attack.reconstruct(seen, rng, lambda *_: None)
        except PrivbenchError:
            return seen.model.vit.mean.expand(seen.shape).clone(), draw, 0
        return found.images, found.draw or draw, found.gradient_calls


def _masked(posterior: Posterior) -> Bool[Tensor, " n"] | None:
    """Return the mask of one picture of which some patches are shown, else None."""
    draw = posterior.draw
    if not isinstance(draw, Draw) or len(draw.mask) > 1:
        return None
    return draw.mask[0] if draw.mask.any() and not draw.mask.all() else None


def _slopes(posterior: Posterior, images: Images, known: torch.Tensor) -> torch.Tensor:
    """Return q - y: as the bias of the head shows it, else as the network has it on the picture."""
    told = posterior.data.get(ViT.HEAD_BIAS)
    with torch.no_grad():
        found = posterior.logits(posterior.weights, images).softmax(1)
    found[range(len(images)), known] -= 1
    if told is None or len(images) > 1:
        return found / len(images)
    kept = posterior.known[ViT.HEAD_BIAS] > 0
    factor = (told * found[0])[kept].sum() / found[0, kept].square().sum()
    return torch.where(kept, told, factor * found[0] if kept.any() else found[0])[None]
