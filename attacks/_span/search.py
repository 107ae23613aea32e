"""The search for tokens: which patches of a picture are known, and what is tried for the others.

Each token of the right picture is a root of one small system (`_tokens`). The fewer are missing,
the better the context that attention adds is known, and the less passes for noise.
"""

from copy import deepcopy

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from privbench.attacks._linear.ambiguity import Ambiguity, ambiguity
from privbench.attacks._linear.completion import complete
from privbench.attacks._span.grid import on_grid
from privbench.attacks._span.levenberg import solve
from privbench.attacks._span.roots import Roots, Tied
from privbench.attacks._span.tokens import TokenEquations
from privbench.attacks._update.reading import comparable, from_pictures, mask
from privbench.observation import Observation
from privbench.threat import Draw

ROOT = 1e3
"""Chi square over its degrees of freedom below which a token counts as found; half of the right
ones stand below 1, seldom one above 700, and wrong ones stop above 1e5 on trained victims."""
BLIND = 1e4
"""The same where no picture is known: noise is then what the best tokens let pass."""
ENOUGH = 2.0
"""The same below which nothing is gained by going on."""
TRUST = 0.3
"""How far from the picture's own attention a token may be, once gradients were matched."""
SAME = 1e-3
"""Distance, relative to a patch's size, below which two roots are one."""
NEAR = 0.3
"""The same below which they may be one, if their midpoint is a root as well."""
FAINT = 1e-3
"""Noise that is assumed at first, in units of what the smooth picture lets pass for noise: right
tokens then fit better than wrong ones by orders of magnitude."""
FIRST = 8
"""Roots, the best ones, that tell what the noise is."""
SHARPER = 0.5
"""Roots are looked at again when what passes for noise has shrunk by this factor."""
HUE, TILT = 0.3, 0.25
"""Of patches drawn at random, in standard deviations of a pixel."""


class Search:
    """What is known of each patch so far."""

    def __init__(
        self,
        seen: Observation,
        rng: Generator,
        starts: int,
        steps: int,
        draw: Draw | None = None,
    ) -> None:
        self.seen, self.rng, self.starts, self.steps = seen, rng, starts, steps
        self.vit = deepcopy(seen.model.vit).double().requires_grad_(False)
        self.draw = draw
        """What was inferred of the defense's random draw, where the update does not show it."""
        draw = mask(seen) if draw is None else draw
        self.open: Ambiguity = ambiguity(seen, draw)
        self.shared = from_pictures(seen)
        table = seen.model.defense.positions(self.vit, draw)[0]
        stem = self.vit.stem
        self.embed = stem.weight  # d p
        self.offset = table[self.vit.prefix :] + (0.0 if stem.bias is None else stem.bias)  # n d
        self.first = self.vit.prefix_tokens(table[None])[0]
        count = len(self.first) + len(self.offset)
        self.system = TokenEquations(self.vit.block(0), self.shared, count, comparable(seen))
        n, k = len(self.open.origin), len(self.open.basis)
        self.coefficients = self.open.origin.new_zeros(n, k)
        self.tokens = self.offset.new_zeros(self.offset.shape)
        self.cost = self.open.origin.new_full((n,), float("inf"))
        self.found = torch.zeros(n, dtype=torch.bool, device=self.coefficients.device)
        self.every = torch.arange(n, device=self.coefficients.device)
        self.evaluations = 0
        self.trust = 1.0
        self.blind = not self.open.origin.any()
        """Whether linear algebra pins no patch down."""
        self.root = BLIND if self.blind else ROOT
        self.matched = False
        """Whether gradients were matched: then no patch is put back to the smooth picture."""
        self.noise = (float("inf"), float("inf"))
        self.calibrated = self.blind

    def stream(self, patches: Float[Tensor, "r p"], at: Int[Tensor, " r"]) -> Float[Tensor, "r d"]:
        """Tokens that these patches make at these places."""
        return patches @ self.embed.T + self.offset[at]

    def refresh_context(self) -> Float[Tensor, "n c"]:
        """Return what attention adds to each patch token, as far as the picture is known."""
        patches = self.open.patches(self.coefficients)
        tokens = torch.cat([self.first, self.stream(patches, self.every)])
        heads = self.system.attend(tokens)
        self.system.scale(heads)
        added = self.system.projected(heads)
        usual = self.system.variances((tokens + added)[len(self.first) :])
        # a wrong picture reaches into weak directions of the hulls, where much passes for noise
        now = (float(usual[0].median()), float(usual[1].median()))
        self.noise = (min(now[0], self.noise[0]), min(now[1], self.noise[1]))
        return self.system.coordinates(heads)[len(self.first) :]

    def attempt(
        self,
        at: Int[Tensor, " r"],
        coefficients: Float[Tensor, "r k"],
        context: Float[Tensor, "r c"],
    ) -> Roots:
        """Solve for the tokens at these places from these starts.

        What attention adds is free, but expected where the picture so far puts it.
        """
        k, system = coefficients.shape[1], self.system
        moves = torch.cat([self.open.basis @ self.embed.T, system.moves])  # q d
        tie = torch.cat([torch.zeros(k), torch.ones(context.shape[1])]).to(coefficients)
        tied = Tied(
            system,
            self.stream(self.open.origin[at], at) + system.added,
            moves,
            torch.cat([torch.zeros_like(coefficients), context], dim=1),
            tie / (self.trust**2 * system.equations),
            self.noise,
        )
        start = torch.cat([coefficients, context], dim=1)
        solved = solve(tied.cost, tied.model, start, self.steps, ENOUGH)
        self.evaluations += solved.evaluations
        return Roots(solved.at[:, :k], tied.base + solved.at @ moves, solved.cost)

    def put(self, at: Int[Tensor, " r"], roots: Roots) -> None:
        """Take over what was solved for at these places."""
        self.coefficients[at], self.tokens[at], self.cost[at] = (
            roots.coefficients,
            roots.tokens,
            roots.cost,
        )
        self.found[at] = roots.cost < self.root

    def at(self, places: Int[Tensor, " r"]) -> Roots:
        """Return what stands at these places."""
        return Roots(self.coefficients[places], self.tokens[places], self.cost[places])

    def round(self, number: int) -> None:
        """Try every patch that is not found yet."""
        masked = self.open.masked
        if not len(self.open.basis):
            self.found[:] = True
            return
        self._settle()
        if not self.matched:
            self._complete()
        left = (~self.found & ~masked).nonzero().flatten()
        if not self.calibrated and len(left):
            self._learn_noise(left, self.refresh_context())
            self._complete()
            left = (~self.found & ~masked).nonzero().flatten()
        self._single(left, self.refresh_context(), number)
        if masked.any() and not self.found[masked].all():
            self._group(masked.nonzero().flatten(), self.refresh_context())
        if self.found.all():
            self._settle()

    def _complete(self) -> None:
        """Fill in by smoothness what no root has pinned down; masked patches stay."""
        self.coefficients = complete(
            *(self.open, self.vit.patch, self.coefficients, self.found, self.open.masked)
        )

    def _draw_plain(self, count: int) -> Float[Tensor, "r k"]:
        """Draw patches of nearly one color, brighter to some side: all that pictures share."""
        side = self.vit.patch
        gray, hue, slope = (
            self._noise(torch.empty(count, *size)) for size in ((1, 1, 1), (3, 1, 1), (2, 1, 1))
        )
        ramp = torch.linspace(-1, 1, side, dtype=gray.dtype, device=gray.device)
        tilt = slope[:, :1] * ramp + slope[:, 1:] * ramp[:, None]
        return (gray + HUE * hue + TILT * tilt).flatten(1) @ self.open.basis.T

    def _known(self) -> Float[Tensor, "u k"]:
        """Patches that other ones may look like."""
        known = self.coefficients[self.found if self.blind else ~self.open.masked]
        return known if len(known) > 1 else self._draw_plain(self.starts)

    def _settle(self) -> None:
        """Look again at what was found: what passed for a root may be off by a little.

        The better the picture is known, the less passes for noise; and of roots that were two
        because noise had blurred one, one is left.
        """
        before = self.noise
        while self.found.any():
            context, at = self.refresh_context(), self.found.nonzero().flatten()
            if all(now > SHARPER * was for now, was in zip(self.noise, before, strict=True)):
                return
            before = self.noise
            self.put(at, self.attempt(at, self.coefficients[at], context[at]))
            if (seats := self.open.masked & self.found).any():
                pool = self.at(seats.nonzero().flatten())
                self.found[seats] = False
                self.assign_to_masked(seats.nonzero().flatten(), self.distinct(pool, self.root))

    def calibrate_noise(self, roots: Roots) -> Int[Tensor, " t"]:
        """Take for noise what the best roots let pass, and all that are as good; choose these."""
        best, count = roots.cost.argsort(), FIRST
        while True:
            first, second = self.system.variances(roots.tokens[best[:count]])
            self.noise = (float(first.median()), float(second.median()))
            cost = self.system.cost(roots.tokens, self.noise)
            true = (cost < self.root).nonzero().flatten()
            if len(true) <= count:
                return true
            count = len(true)

    def _learn_noise(self, at: Int[Tensor, " u"], context: Float[Tensor, "n c"]) -> None:
        """Learn what noise is from the tokens that fit best: a smooth picture overrates it."""
        self.noise = (FAINT * self.noise[0], FAINT * self.noise[1])
        roots = self.attempt(at, self.coefficients[at], context[at])
        while len(at):
            before = self.noise
            true = self.calibrate_noise(roots)
            at, roots = (
                at[true],
                self.attempt(at[true], roots.coefficients[true], context[at[true]]),
            )
            if all(now > SHARPER * was for now, was in zip(self.noise, before, strict=True)):
                break
        self.put(at, roots)
        self.calibrated = True

    def _single(self, at: Int[Tensor, " r"], context: Float[Tensor, "n c"], number: int) -> None:
        """Patches whose place is known: from where they are, later also from near it."""
        if not len(at):
            return
        tries = 1 if number == 0 else 16 if self.blind else 8
        spread = 0.15 * self._spread()
        starts = self.coefficients[at].repeat(tries, 1)
        size = torch.arange(tries, device=at.device).repeat_interleave(len(at))
        starts += size[:, None] * spread * self._noise(starts)
        if self.blind and tries > 1:
            starts[len(at) :] = self.draw_alike(len(starts) - len(at))
        solved = self.attempt(at.repeat(tries), starts, context[at].repeat(tries, 1))
        lowest, which = solved.cost.view(tries, -1).min(0)
        best = solved[which * len(at) + torch.arange(len(at), device=at.device)]
        self.cost[at] = torch.minimum(self.cost[at], lowest)
        won = best.cost < self.root
        self.put(at[won], best[won])

    def _group(self, at: Int[Tensor, " m"], context: Float[Tensor, "n c"]) -> None:
        """Patches without a place of their own: any root of their common system is one of them."""
        starts, seat = self._draw_starts(at)
        if self.blind:
            missing = at[~self.found[at]][: self.starts]
            starts[: len(missing)] = self.coefficients[missing]
        solved = self.attempt(seat, starts, context[seat])
        old = self.at(at[self.found[at]])
        self.found[at] = False
        left = self.assign_to_masked(at, self.distinct(old + solved, self.root))
        known = self._known()
        for place in left:
            self.coefficients[place] = known[int(torch.randint(len(known), (), generator=self.rng))]

    def assign_to_masked(self, at: Int[Tensor, " m"], roots: Roots) -> Int[Tensor, " l"]:
        """Give roots to places, the best first; return the places for which there was none."""
        count = min(len(at), len(roots))
        self.put(at[:count], roots[torch.arange(count, device=at.device)])
        return at[count:]

    def distinct(self, pool: Roots, highest: float) -> Roots:
        """Roots up to a cost, each once, the best first.

        What noise blurs is a valley: two of its points have a midpoint that is a root as well.
        """
        size = float(self._known().norm(dim=1).mean())
        kept: list[int] = []
        for one in pool.cost.argsort().tolist():
            if not pool.cost[one] < highest:
                break
            apart = (pool.coefficients[kept] - pool.coefficients[one]).norm(dim=1) / size
            if (apart < SAME).any():
                continue
            near = torch.tensor(kept, device=apart.device)[apart < NEAR] if kept else []
            if len(near):
                middle = (pool.tokens[near] + pool.tokens[one]) / 2
                if (self.system.cost(middle, self.noise) < self.root).any():
                    continue
            kept.append(one)
        return pool[torch.tensor(kept, dtype=torch.long, device=self.coefficients.device)]

    def _draw_starts(self, at: Int[Tensor, " m"]) -> tuple[Float[Tensor, "s k"], Int[Tensor, " s"]]:
        """Draw random starts that look like patches already known, and seats for them."""
        starts = self.draw_alike(self.starts)
        seat = torch.randint(len(at), (self.starts,), generator=self.rng).to(at.device)
        return starts, at[seat]

    def draw_alike(self, count: int) -> Float[Tensor, "r k"]:
        """Draw patches around those that are known."""
        known = self._known()
        pick = torch.randint(len(known), (count,), generator=self.rng).to(known.device)
        starts = known[pick] + self._spread() * self._noise(known[pick])
        if self.blind:  # what is found first may be all of one kind, as white ground
            other = starts[::2]
            starts[::2] = self._draw_plain(len(other)) + self._noise(other)
        return starts

    def _spread(self) -> Float[Tensor, ""]:
        return self._known().std()

    def _noise(self, like: Tensor) -> Tensor:
        drawn = torch.randn(like.shape, generator=self.rng, dtype=torch.float64)
        return drawn.to(like.device)

    def project_to_8bit(self) -> None:
        """Pull patches onto the 8-bit grid of pictures, by alternating projections.

        A patch that is nearly right ends where its span meets the grid, and that is no accident:
        a span of a few dimensions misses the grid by a quarter of a step in most pixels.
        """
        found, met = on_grid(self.open, self.vit, self.coefficients)
        self.coefficients[met] = found[met]

    def forget(self) -> None:
        """Start again from the smooth picture, and trust it more than single tokens."""
        masked = self.open.masked
        self.found[:] = False
        self.coefficients[:] = 0
        self._complete()
        known = self._known()
        pick = torch.randint(len(known), (int(masked.sum()),), generator=self.rng)
        self.coefficients[masked] = known[pick.to(known.device)]
        self.trust, self.matched = TRUST, True

    def refill(self) -> Int[Tensor, " l"]:
        """Put roots of their common system in the place of the masked patches, best first.

        Returns the places for which there was no root.
        """
        at = self.open.masked.nonzero().flatten()
        if not len(at):
            return at
        left = at
        for repeated in (False, True):
            context = self.refresh_context()[at].mean(0).expand(self.starts, -1)
            starts, seat = self._draw_starts(at)
            if repeated:
                kept = self.coefficients[at][: self.starts]
                starts[: len(kept)] = kept
            solved = self.attempt(seat, starts, context)
            left = self.assign_to_masked(at, self.distinct(solved, float("inf")))
        return left
