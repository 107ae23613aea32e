"""Peel: all tokens of a batch, found one by one and taken out of the update as they are found.

Each token of the first block is a root of one system that holds no other token (`_span/tokens`),
and whoever has one can take it out of both gradients of the MLP (`_peel/peeling`), so that the
next is easier to find. Once all are known, the rest is linear algebra: their gradients, what
attention gave them, the patches, the places, and who belongs to which picture. It needs no
position gradient and no label, for one picture as for as many as leave fewer tokens than the
width (DAGER, arXiv:2405.15586, has that bound for text, where tokens come from a list).
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Generator, Tensor

from privbench.attack import Attack, Tick
from privbench.attacks._peel.fill import Fill
from privbench.attacks._peel.gather import Places, pictures, place, places
from privbench.attacks._peel.hunt import Hunt
from privbench.attacks._peel.judge import nearest
from privbench.attacks._peel.peeling import Peeling
from privbench.attacks._peel.settle import Settled, Settling, seats
from privbench.attacks._peel.starts import Starts
from privbench.attacks._peel.unroll import unroll
from privbench.attacks._update.reading import comparable, from_pictures, mask
from privbench.observation import Observation
from privbench.roles import Role
from privbench.threat import Images, Reconstruction
from privbench.vit import ViT


@dataclass(frozen=True)
class Inputs:
    """What entered the network, as far as its tokens were found."""

    images: Images
    """The mean color where nothing was."""
    sure: Bool[Tensor, "b n"]
    """Which patches were."""
    evaluations: int
    """Of a token's equations."""

    @property
    def share(self) -> float:
        """Share of the patches that were found."""
        return float(self.sure.double().mean())


class Peel(Attack):
    """Token by token out of the first block's gradients, whole batches too; label-free."""

    paper: ClassVar[str] = "privbench; after DAGER, arXiv:2405.15586"
    version: ClassVar[int] = 2
    roles: ClassVar[frozenset[Role]] = frozenset({Role.STEM, Role.TOKENS})
    rounds: Annotated[int, Field(ge=1)] = 40
    """Each starts against the tokens that the rounds before have left."""
    starts: Annotated[int, Field(ge=1)] = 128
    """Starts in a round."""
    steps: Annotated[int, Field(ge=1)] = 40
    """Of Levenberg-Marquardt, at most."""

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Find tokens until none is left, and make pictures of them; mean color where none is."""
        each, room = seen.model.vit.tokens, seen.model.vit.width - 1
        tokens = seen.shape[0] * each
        inputs = self.inputs(seen, rng, tick)
        judged = nearest(seen, inputs.images, mask(seen), levels=inputs.share > 0)
        tick(self.rounds, self.rounds, judged.objective)
        notes = []
        if tokens > room:
            notes.append(
                f"Tokens of the batch: {tokens}, more than the width less one, {room}. Not by this "
                f"method, which takes a batch of at most {room // each} from this model."
            )
        elif inputs.share < 1:
            notes.append(unfound(inputs.share))
        report = {
            "tokens": float(tokens),
            "largest_batch": float(room // each),
            "found": inputs.share,
            "token_evaluations": float(inputs.evaluations),
        }
        return Reconstruction(*judged, report, tuple(notes))

    def inputs(self, seen: Observation, rng: Generator, tick: Tick) -> Inputs:
        """Return network inputs as they are found."""
        vit = deepcopy(seen.model.vit).double().requires_grad_(False)
        shared, batch = from_pictures(seen), seen.shape[0]
        tokens = batch * vit.tokens
        normal = vit.stem.weight.new_zeros(batch, vit.grid**2, vit.stem.weight.shape[1])
        sure, evaluations = torch.zeros(normal.shape[:2], dtype=torch.bool), 0
        if tokens <= vit.width - 1:
            peeling = Peeling(vit, shared, tokens, comparable(seen))
            where, hunt = places(seen, vit, shared), Hunt(peeling, rng, self.steps)
            for done in hunt.run(Starts(vit, where, rng), self.starts, self.rounds):
                tick(done, self.rounds, peeling.left / tokens)
            evaluations = hunt.evaluations
            if len(peeling.found):
                settled = assembled(vit, shared, peeling, where, batch)
                normal, sure = settled.patches(where), settled.sure
        images = vit.pixels(normal).to(seen.model.vit.mean).clamp(0, 1)
        return Inputs(images, sure, evaluations)


def unfound(share: float) -> str:
    """Say what share of the patches was found, and what stands in the place of the others."""
    return f"Patches found: {share:.0%}; the others have the mean color."


def assembled(
    vit: ViT, shared: Mapping[str, Tensor], peeling: Peeling, where: Places, batch: int
) -> Settled:
    """Make pictures of the tokens that are found."""
    block, each = peeling.block, len(where.rows)
    placed = place(block, unroll(vit, shared, peeling), where, peeling.whole.directions)
    token = seats(placed, pictures(block, placed, batch, each), where, batch)
    settled = Settling(block, peeling.found, placed, where).run(token)
    return Fill(vit, peeling, where).run(settled)
