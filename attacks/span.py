"""Span matching: patches whose tokens fit the spans that the first block's gradients leak.

Linear algebra leaves a few numbers open per patch (`_ambiguity`), among them all of a masked patch.
Each token of the right picture is a root of one small system (`_tokens`) that needs no other token,
no label and no second derivative; so the tokens are found one by one, from a smooth picture or from
random starts, and a root shows itself by its cost. What is found makes the rest easier.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from timm.models.vision_transformer import Block
from torch import Generator, Tensor

from privbench.attack import Attack, Tick
from privbench.attacks._ambiguity import Ambiguity, ambiguity
from privbench.attacks._completion import complete
from privbench.attacks._levenberg import Solved, solve
from privbench.attacks._reading import from_pictures, mask
from privbench.attacks._restricted import Restricted
from privbench.attacks._tokens import TokenEquations
from privbench.observation import Observation
from privbench.threat import Reconstruction
from privbench.vit import ViT

BLOCK = "backbone.blocks.0"
FIRST = frozenset(
    f"{BLOCK}.{layer}.{kind}" for layer in TokenEquations.LAYERS for kind in ("weight", "bias")
)
ROOT = 100.0
"""Chi square over its degrees of freedom below which a token counts as found; the right one
stands at about 1, seldom above 30, and wrong ones stop above 1e5 on trained victims."""
ENOUGH = 2.0
"""The same below which nothing is gained by going on."""
EXACT = 1e-4
"""Distance between the gradients below which there is nothing to polish."""
POLISHED = 1e-7
"""The same, once gradients were matched."""
MATCHINGS = 4
"""Rounds of matching gradients, each from the roots that the one before makes visible."""
TRUST = 0.3
"""How far from the picture's own attention a token may be, once gradients were matched."""
NEAR = 3e-2
"""As SAME, where noise makes roots uncertain."""
SAME = 1e-3
"""Distance, relative to a patch's size, below which two roots are one."""


class SpanMatching(Attack):
    """Token by token inside the exact ambiguity, by the spans of the first block; label-free."""

    paper: ClassVar[str] = "privbench; after DAGER, arXiv:2405.15586"
    reads: ClassVar[frozenset[str]] = frozenset({ViT.PROJECTION}) | FIRST
    rounds: Annotated[int, Field(ge=1)] = 10
    """Each starts from what the rounds before have found."""
    starts: Annotated[int, Field(ge=1)] = 128
    """Random starts in a round for patches that share an embedding."""
    steps: Annotated[int, Field(ge=1)] = 30
    """Of Levenberg-Marquardt, at most."""
    polish: Annotated[int, Field(ge=0)] = 220
    """Steps of each restricted gradient matching (`srgm`), where the tokens alone do not do."""

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Find tokens; where the update is too noisy for that, match gradients in between.

        The answer is the picture whose own gradient is nearest to the shared one.
        """
        search = Search(seen, rng, self.starts, self.steps)
        matching = Restricted(seen, search.open)
        total = self.rounds + 1
        for done in range(self.rounds):
            search.round(done)
            tick(done + 1, total, float(search.cost.nan_to_num(posinf=1e9).mean()))
            if search.found.all():
                break
        best, found = search.a.clone(), search.found.clone()
        lowest = matching.at(best)
        if lowest > EXACT and len(search.open.basis):
            for a, exact in self._polished(search, matching):
                tick(total - 1, total, lowest)
                if (value := matching.at(a)) < lowest:
                    best, found, lowest = a.clone(), exact.clone(), value
                if lowest < POLISHED:
                    break
        tick(total, total, lowest)
        return self._answer(search, matching, best, found, lowest)

    def _polished(
        self, search: "Search", matching: Restricted
    ) -> Iterator[tuple[Float[Tensor, "n k"], Bool[Tensor, " n"]]]:
        """Yield pictures to choose from, with which of their patches are roots."""
        masked, quiet = search.open.masked, lambda _: None
        if search.found.any():
            left = (~search.found & masked).nonzero().flatten()
            roots = search.a[search.found & masked]
            if len(left) and len(roots):
                search.a = matching.fill(search.a, left, roots)
                yield search.a, search.found
            if self.polish and not search.found.all():
                a, _ = matching.descend(search.a, self.polish, quiet, ~search.found)
                yield a, search.found
        if not self.polish:
            return
        search.forget()
        none = torch.zeros_like(search.found)
        for _ in range(MATCHINGS):
            search.a, _ = matching.descend(search.a, self.polish, quiet)
            yield search.a, none
            left = search.refill()
            if len(left):
                roots = search.a[masked & ~torch.isin(search.every, left)]
                search.a = matching.fill(search.a, left, roots)

    def _answer(
        self,
        search: "Search",
        matching: Restricted,
        a: Float[Tensor, "n k"],
        found: Bool[Tensor, " n"],
        lowest: float,
    ) -> Reconstruction:
        masked, shape = search.open.masked, search.seen.shape
        report = {
            "open_dimensions": float(a.numel()),
            "found": float(found[~masked].double().mean()) if (~masked).any() else 1.0,
            "masked_found": float(found[masked].double().mean()) if masked.any() else 1.0,
            "token_evaluations": float(search.evaluations),
        }
        notes = []
        if shape[0] > 1:
            notes.append("A batch: tokens of all images share the spans; one picture stands in.")
        if missing := int((~found).sum()):
            notes.append(f"{missing} of {len(found)} patches were matched, not found as roots.")
        return Reconstruction(
            matching.picture(a).clamp(0, 1).expand(shape).clone(),
            lowest,
            matching.labels,
            matching.calls,
            report,
            tuple(notes),
        )


class Search:
    """What is known of each patch so far."""

    def __init__(self, seen: Observation, rng: Generator, starts: int, steps: int) -> None:
        self.seen, self.rng, self.starts, self.steps = seen, rng, starts, steps
        self.vit = deepcopy(seen.model.vit).double().requires_grad_(False)
        self.open: Ambiguity = ambiguity(seen)
        self.shared = from_pictures(seen)
        table = seen.model.defense.positions(self.vit, mask(seen))[0]
        backbone, prefix = self.vit.backbone, self.vit.prefix
        projection = backbone.patch_embed.proj
        self.embed = projection.weight.flatten(1)  # d p
        self.offset = table[prefix:] + projection.bias  # n d
        assert backbone.cls_token is not None
        self.first = backbone.cls_token[0] + table[:prefix]
        block = backbone.blocks[0]
        assert isinstance(block, Block)
        self.system = TokenEquations(block, self.shared, BLOCK, len(self.first) + len(self.offset))
        n, k = len(self.open.origin), len(self.open.basis)
        self.a = self.open.origin.new_zeros(n, k)
        self.cost = self.open.origin.new_full((n,), float("inf"))
        self.found = torch.zeros(n, dtype=torch.bool, device=self.a.device)
        self.every = torch.arange(n, device=self.a.device)
        self.evaluations = 0
        self.trust = 1.0

    def stream(self, patches: Float[Tensor, "r p"], at: Int[Tensor, " r"]) -> Float[Tensor, "r d"]:
        """Tokens that these patches make at these places."""
        return patches @ self.embed.T + self.offset[at]

    def context(self) -> Float[Tensor, "n c"]:
        """Return what attention adds to each patch token, as far as the picture is known."""
        tokens = torch.cat([self.first, self.stream(self.open.patches(self.a), self.every)])
        heads = self.system.attend(tokens)
        self.system.scale(heads)
        added = self.system.projected(heads)
        usual = self.system.variances((tokens + added)[len(self.first) :])
        self.noise = (float(usual[0].median()), float(usual[1].median()))
        return self.system.coordinates(heads)[len(self.first) :]

    def attempt(
        self, at: Int[Tensor, " r"], a: Float[Tensor, "r k"], c: Float[Tensor, "r c"]
    ) -> Solved:
        """Solve for the tokens at these places from these starts.

        What attention adds is free, but expected where the picture so far puts it.
        """
        k, system = a.shape[1], self.system
        base = self.stream(self.open.origin[at], at) + system.added
        moves = torch.cat([self.open.basis @ self.embed.T, system.moves])  # q d
        tie = torch.cat([torch.zeros(k), torch.ones(c.shape[1])]).to(base)
        tie = tie / (self.trust**2 * system.equations)
        start = torch.cat([a, c], dim=1)
        expected = torch.cat([torch.zeros_like(a), c], dim=1)

        def place(
            theta: Float[Tensor, "r q"], rows: Int[Tensor, " r"]
        ) -> tuple[Float[Tensor, "r d"], Float[Tensor, "r q"]]:
            return base[rows] + theta @ moves, (theta - expected[rows]) * tie

        def cost(theta: Float[Tensor, "r q"], rows: Int[Tensor, " r"]) -> Float[Tensor, " r"]:
            token, pull = place(theta, rows)
            return system.cost(token, self.noise) + (pull * (theta - expected[rows])).sum(1)

        def model(
            theta: Float[Tensor, "r q"], rows: Int[Tensor, " r"]
        ) -> tuple[Float[Tensor, "r q"], Float[Tensor, "r q q"]]:
            token, pull = place(theta, rows)
            slope, bend = system.model(token, moves, self.noise)
            return slope + pull, bend + torch.diag(tie)

        solved = solve(cost, model, start, self.steps, ENOUGH)
        self.evaluations += solved.evaluations
        return Solved(solved.at[:, :k], solved.cost, solved.evaluations)

    def round(self, number: int) -> None:
        """Try every patch that is not found yet."""
        masked = self.open.masked
        if not len(self.open.basis):
            self.found[:] = True
            return
        self.a = complete(self.open, self.vit.patch, self.a, self.found, masked)
        c = self.context()
        self._single((~self.found & ~masked).nonzero().flatten(), c, number)
        if masked.any() and not self.found[masked].all():
            self._group(masked.nonzero().flatten(), self.context())

    def _single(self, at: Int[Tensor, " r"], c: Float[Tensor, "n c"], number: int) -> None:
        """Patches whose place is known: from the smooth picture, later also from beside it."""
        if not len(at):
            return
        tries = 1 if number == 0 else 8
        spread = 0.15 * self._spread()
        starts = self.a[at].repeat(tries, 1)
        size = torch.arange(tries, device=at.device).repeat_interleave(len(at))
        starts += size[:, None] * spread * self._noise(starts)
        solved = self.attempt(at.repeat(tries), starts, c[at].repeat(tries, 1))
        cost, best = solved.cost.view(tries, -1).min(0)
        a = solved.at.view(tries, len(at), -1)[best, torch.arange(len(at), device=at.device)]
        better = cost < self.cost[at]
        won = at[better]
        self.cost[won], self.found[won] = cost[better], cost[better] < ROOT
        keep = won[self.found[won]]
        self.a[keep] = a[better][self.found[won]]

    def _group(self, at: Int[Tensor, " m"], c: Float[Tensor, "n c"]) -> None:
        """Patches without a place of their own: any root of their common system is one of them."""
        known = self.a[~self.open.masked]
        starts, seat = self._draw(at)
        solved = self.attempt(seat, starts, c[seat])
        roots = [self.a[i] for i in at[self.found[at]]]
        costs = [self.cost[i] for i in at[self.found[at]]]
        for one in solved.cost.argsort().tolist():
            if solved.cost[one] < ROOT and self._new(solved.at[one], roots):
                roots.append(solved.at[one])
                costs.append(solved.cost[one])
        for place, root, cost in zip(at, roots, costs, strict=False):
            self.a[place], self.cost[place], self.found[place] = root, cost, True
        for place in at[len(roots) :]:
            self.a[place] = known[int(torch.randint(len(known), (), generator=self.rng))]

    def _draw(self, at: Int[Tensor, " m"]) -> tuple[Float[Tensor, "s k"], Int[Tensor, " s"]]:
        """Throw random starts that look like patches already known, and seats for them."""
        known = self.a[~self.open.masked]
        pick = torch.randint(len(known), (self.starts,), generator=self.rng).to(at.device)
        seat = torch.randint(len(at), (self.starts,), generator=self.rng).to(at.device)
        return known[pick] + self._spread() * self._noise(known[pick]), at[seat]

    def _new(self, root: Float[Tensor, " k"], roots: list[Tensor], same: float = SAME) -> bool:
        size = self.a[~self.open.masked].norm(dim=1).mean()
        return all((root - other).norm() > same * size for other in roots)

    def _spread(self) -> Float[Tensor, ""]:
        known = self.a[~self.open.masked]
        return known.std()

    def _noise(self, like: Tensor) -> Tensor:
        drawn = torch.randn(like.shape, generator=self.rng, dtype=torch.float64)
        return drawn.to(like.device)

    def forget(self) -> None:
        """Start again from the smooth picture, and trust it more than single tokens."""
        masked = self.open.masked
        self.found[:] = False
        self.a[:] = 0
        self.a = complete(self.open, self.vit.patch, self.a, self.found, masked)
        known = self.a[~masked]
        pick = torch.randint(len(known), (int(masked.sum()),), generator=self.rng)
        self.a[masked] = known[pick.to(known.device)]
        self.trust = TRUST

    def refill(self) -> Int[Tensor, " l"]:
        """Put roots of their common system in the place of the masked patches, best first.

        Returns the places for which there was no root.
        """
        at = self.open.masked.nonzero().flatten()
        roots: list[Tensor] = []
        if not len(at):
            return at
        for repeated in (False, True):
            c = self.context()[at].mean(0).expand(self.starts, -1)
            starts, seat = self._draw(at)
            if repeated:
                kept = self.a[at][: self.starts]
                starts[: len(kept)] = kept
            solved = self.attempt(seat, starts, c)
            roots = []
            for one in solved.cost.argsort().tolist():
                if self._new(solved.at[one], roots, NEAR):
                    roots.append(solved.at[one])
            for place, root in zip(at, roots, strict=False):
                self.a[place] = root
        return at[len(roots) :]
