"""How good a candidate is, without the truth: its own gradient against the shared one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from privbench.attacks._matching.distances import relative
from privbench.attacks._matching.local import Client, LocalModel, split
from privbench.attacks._update.reading import from_pictures, in_units, kept_alone, labels, told
from privbench.attacks._update.rounds import standing_for, together
from privbench.client_step import ClientStep
from privbench.errors import NotGranted
from privbench.observation import Observation
from privbench.pixels import neighbor, rounded
from privbench.threat import Images, Randomness, Reconstruction, Update
from privbench.wire import decayed, first_adamw, mean, sent

Gradient = Mapping[str, Tensor]

ARITHMETIC = 1e-8
"""Relative squared distance that float32 arithmetic alone may leave between equal pictures."""
FLOOR = 1.5
"""Factor over the expected distance within which a candidate stands at the noise floor."""
PROVED = 1e-10
"""Relative squared distance up to which a picture on the 8-bit grid counts as the right one."""
SHARPER = 100.0
"""Factor by which a step of the grid in one pixel has to be farther away than the picture."""
NEIGHBORS = 3
JITTER, GROUND = 3e-6, 1e-9
"""What float32 may change of a gradient, on another machine, in units of its tensor's norm and of
the largest tensor's, before it is rounded on the wire: several times what it does."""
STEPS, MOST = 2e-4, 0.05
"""What it may change of several AdamW steps, relative and squared, whose signs decide the next; and
the most that counts of anything: beyond that an update explains nothing."""


@dataclass(frozen=True)
class Distance:
    """Mean over tensors of the squared difference, relative to the shared tensor.

    At the scale that fits best, and of entries that the defense did not make.
    """

    apart: float
    floor: float
    """What the defense's public noise alone would put between the right picture and the update."""
    flips: float = 0.0
    """What arithmetic alone would, where the wire rounds: next to the middle of a step it decides
    which way, and next to zero the sign that AdamW steps by."""

    @property
    def at_floor(self) -> bool:
        """Whether nothing but noise is left to explain."""
        return self.apart <= FLOOR * (self.floor + self.flips) + ARITHMETIC


class Verdict:
    """Judges candidates of one observation; the defense's procedure is public, its draw is not."""

    def __init__(self, seen: Observation, rng: Generator) -> None:
        self.seen, self.calls = seen, 0
        self.seeds = torch.randint(2**62, (2,), generator=rng).tolist()
        self.rng = rng
        model, steps = seen.model, seen.protocol.steps
        self.shown = model.simulate(
            seen.shape[0], Generator().manual_seed(self.seeds[0]), told(seen)
        )
        one = replace(seen.protocol, clients=1)
        self.model = LocalModel(model.vit, model.defense, one) if steps > 1 else seen.model
        given, self.by_tensor = seen.update.tensors, model.defense.by_tensor
        self.kept = model.defense.measured(given)
        # what travelled is compared as it travelled, but for what several steps make of a penalty
        self.whole = steps == 1 or seen.protocol.wire != "gradient"
        self.shared = self._measured(
            in_units(given, by_tensor=self.by_tensor) if self.whole else from_pictures(seen)
        )

    def labels(self, answer: Reconstruction) -> Int[Tensor, " b"] | None:
        """Labels of a candidate: its own, or those that the update shows; None without any."""
        if answer.labels is not None:
            return answer.labels
        try:
            return labels(self.seen)
        except NotGranted:
            return None

    def distance(
        self, images: Images, known: Int[Tensor, " b"] | None, draw: Randomness | None = None
    ) -> Distance:
        """Compare; infinitely far where the labels are unknown or the gradient is undefined.

        A draw stands in for the one that the update shows.
        """
        if known is None:
            return Distance(float("inf"), 0.0)
        self.calls += self.seen.protocol.steps * self.seen.protocol.clients
        draw = self.shown if draw is None else draw
        clients = split(images, known, draw, self.seen.protocol.clients)
        slopes = [self._slopes(*client) for client in clients]
        plain = self._mean([self._stepped(one) for one in slopes])
        one, other = self.seeds
        first, drawn = self._sent(clients, slopes, one)
        # nothing was drawn: another seed gives the same, at the price of another step
        second = self._sent(clients, slopes, other)[0] if drawn else first
        steady = all(torch.equal(first[name], second[name]) for name in first)
        apart = self._apart(first if steady else plain, self.shared)
        floor = 0.0 if steady else self._apart(first, plain)
        flips = self._flips(clients, slopes, first) if steady and self.rounds else 0.0
        return Distance(apart if apart == apart else float("inf"), floor, flips)

    @property
    def rounds(self) -> bool:
        """Whether the wire or the optimizer is no smooth function of the gradient."""
        return not self.seen.protocol.exact

    def _slopes(self, images: Images, known: Tensor, draw: Randomness | None) -> Gradient:
        """Return one client's gradient, or the sum of what its steps subtract, undefended."""
        several = self.seen.protocol.steps > 1
        found = self.model.gradient(images, known, draw, differentiable=False)
        added = {} if several else self.seen.model.penalty_gradient(draw)
        found = {n: found[n] + added[n] if n in added else found[n] for n in found}
        return self._measured({name: found[name] for name in self.shared})

    def _stepped(self, slopes: Gradient) -> Gradient:
        """Return what the optimizer makes of it, decay included."""
        protocol, weights = self.seen.protocol, self.seen.model.vit.trained()
        if protocol.optimizer != "adamw":
            return slopes
        if protocol.steps == 1:
            return {n: first_adamw(t, weights[n].detach()) for n, t in slopes.items()}
        return {n: t + decayed(protocol) * weights[n].detach() for n, t in slopes.items()}

    def _flips(
        self, clients: Sequence[Client], slopes: Sequence[Gradient], whole: Gradient
    ) -> float:
        """Return how far float32 alone may move what is sent."""
        rng = Generator().manual_seed(self.seeds[0])
        moved = []
        for number, (client, one) in enumerate(zip(clients, slopes, strict=True)):
            sizes = {n: float(t.double().square().mean().sqrt()) for n, t in one.items()}
            largest = max(sizes.values())
            near = {
                n: t
                + (JITTER * sizes[n] + GROUND * largest) * torch.randn(t.shape, generator=rng).to(t)
                for n, t in one.items()
            }
            seed = Generator().manual_seed(self.seeds[0] + number)
            moved.append(self._shared(*client, near, seed))
        least = STEPS if self.seen.protocol.simulated else 0.0
        return min(MOST, max(least, self._apart(self._mean(moved), whole)))

    def _sent(
        self, clients: Sequence[Client], slopes: Sequence[Gradient], seed: int
    ) -> tuple[Gradient, bool]:
        """Return what clients share together, and whether anything was drawn for it."""
        rngs = [Generator().manual_seed(seed + number) for number in range(len(clients))]
        before = [rng.get_state() for rng in rngs]
        rows = zip(clients, slopes, rngs, strict=True)
        found = self._mean([self._shared(*client, one, rng) for client, one, rng in rows])
        pairs = zip(rngs, before, strict=True)
        return found, any(not torch.equal(rng.get_state(), state) for rng, state in pairs)

    def _mean(self, clients: Sequence[Gradient]) -> Gradient:
        """Return what all clients share together."""
        return self._measured(mean([Update(one) for one in clients]).tensors)

    def proof(
        self, images: Images, known: Int[Tensor, " b"] | None, draw: Randomness | None = None
    ) -> Images | None:
        """Return the picture on the 8-bit grid if its gradient is the shared one, else None.

        A step of the grid in a pixel must leave the gradient farther away than the picture does:
        only then does the gradient tell neighbors apart. What the model does not see, as the
        order of masked patches, stays unproved.
        """
        picture = rounded(images)
        here = self.distance(picture, known, draw)
        if here.floor > 0 or here.apart > PROVED + FLOOR * here.flips:
            return None
        for _ in range(NEIGHBORS):
            near = neighbor(picture, self.rng)
            there = self.distance(near, known, draw).apart
            if there <= SHARPER * here.apart:
                return None
        return picture

    def _shared(
        self,
        images: Images,
        known: Tensor,
        draw: Randomness | None,
        plain: Gradient,
        rng: Generator,
    ) -> Gradient:
        """Return what a client that holds the pictures would share.

        Several local steps are simulated without what the defense does to each step's gradient.
        """
        model = self.seen.model
        changed = model.defense.per_example or model.defense.changes("finish")
        rounds, given = standing_for(self.seen), [plain]
        if changed and self.seen.protocol.steps == 1:
            step = ClientStep(model.vit, model.defense)
            runs = [step.run(images, known, draw, rng).gradient for _ in range(rounds)]
            given = [self._measured({name: one[name] for name in plain}) for one in runs]
        withheld = self.seen.update.withheld
        computed = [Update(self._stepped(one), withheld) for one in given]
        if len(computed) == 1:
            computed *= rounds
        updates = model.defense.protect_rounds(computed, [rng] * rounds)
        update = together(model.defense, updates) if rounds > 1 else updates[0]
        if self.whole:
            update = sent(update, model.vit.trained(), self.seen.protocol)
        return self._measured(update.tensors)

    def _measured(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Entries that the defense did not make; the rest zero, before it chooses what to make."""
        return kept_alone(tensors, self.kept)

    def _apart(self, one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
        return float(relative(one, other, by_tensor=self.by_tensor))
