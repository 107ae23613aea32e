"""Several rounds with fresh draws: what one update leaves open, the next one pins down.

Each round shows every patch up to a linear span: that of the differences of the patches masked
in it. A patch lies in all of these affine spaces at once, and what they share is the span of the
patches that were masked every time. Naive shuffling falls to a vote: most patches stay each time.

A batch leaves linear algebra one mixture in each round, and the differences between its pictures
stay open however many rounds there are. So `peel` finds the patches of one round, of more where it
does not find them all, and the others vote for their places.
"""

from copy import deepcopy
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor

from privbench.attack import Attack, Tick
from privbench.attacks._linear.ambiguity import Ambiguity, ambiguity
from privbench.attacks._linear.smooth import complete_columns
from privbench.attacks._order.votes import Hint, Shown, aligned, order_of, voted
from privbench.attacks._peel.gather import places
from privbench.attacks._peel.judge import nearest
from privbench.attacks._update.reading import from_pictures, mask, placeless
from privbench.attacks.peel import Peel, unfound
from privbench.observation import Observation
from privbench.patches import cut, join
from privbench.roles import Role
from privbench.threat import Draw, Reconstruction

OPEN = 1e-6
"""Share of the rounds that have to pin a direction down; less is rounding."""
ALONE = "One round only: add `--set threat.rounds=4` for more."


class Rounds(Attack):
    """Several updates on one batch together; needs threat.rounds above one."""

    paper: ClassVar[str] = "privbench"
    version: ClassVar[int] = 3
    roles: ClassVar[frozenset[Role]] = frozenset({Role.POSITIONS, Role.STEM})
    many_rounds: ClassVar[bool] = True
    starts: Annotated[int, Field(ge=1)] = 128
    """Of `peel`, in a round, where there is a batch."""

    def nested(self) -> tuple[str, ...]:
        """Name the attack that finds the patches of a batch."""
        return ("peel",)

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Solve all rounds of one picture together, or let those of a batch vote."""
        vit, batch = seen.model.vit, seen.shape[0]
        held = vit.supports(Role.TOKENS) and batch * vit.tokens <= vit.width - 1
        if batch > 1 and held and vit.names_of(Role.TOKENS) <= frozenset(seen.update.tensors):
            return _of_batch(seen, Peel(starts=self.starts), rng, tick)
        return _of_one(seen, tick)


def _of_batch(seen: Observation, peel: Peel, rng: Generator, tick: Tick) -> Reconstruction:
    """Find the patches in as few rounds as show them all, and put them where rounds saw them."""
    vit, updates = seen.model.vit, (seen.update, *seen.later)
    steps, shown, evaluations = len(updates) * peel.rounds, list[Shown](), 0
    hints: list[Hint] = []
    double = deepcopy(vit).double().requires_grad_(False)
    for number, update in enumerate(updates):

        def ticks(done: int, _: int, value: float, before: int = number * peel.rounds) -> None:
            tick(before + done, steps, value)

        one = replace(seen, update=update, later=())
        told, hint = ~placeless(one, mask(one)), places(one, double, from_pictures(one))
        if any(past.sure.all() for past in shown) and len(hint.basis) < hint.basis.shape[1]:
            hints.append(Hint(hint.origin[hint.prefix :], hint.basis, told))
        else:
            found = peel.inputs(one, rng, ticks)
            shown.append(Shown(double.patches(found.images.double()), found.sure, told))
            evaluations += found.evaluations
    shown = aligned(shown)
    together = voted(shown, hints)
    # the first update is compared with the same pictures as they entered in that round
    draw, first = mask(seen), shown[0]
    fixed = first.told if draw is not None else torch.zeros_like(first.told)
    pairs = zip(first.patches, together.patches, strict=True)
    order = torch.stack([order_of(*pair, fixed) for pair in pairs]).to(first.patches.device)
    index = order[..., None].expand_as(first.patches)
    entered = vit.pixels(together.patches.gather(1, index)).to(vit.mean).clamp(0, 1)
    judged = nearest(seen, entered, draw, levels=bool(together.known.any()))
    entered = cut(judged.images, vit.patch)
    images = join(torch.empty_like(entered).scatter_(1, index, entered), vit.patch)
    moved = order != torch.arange(order.shape[1], device=order.device)
    if moved.any():
        draw = Draw(moved if draw is None else draw.mask, order)
    tick(steps, steps, judged.objective)
    share, placed = (float(x.double().mean()) for x in (together.known, together.placed))
    notes = [ALONE] if len(updates) == 1 else []
    if share < 1:
        notes.append(unfound(share))
    if placed < share:
        notes.append(
            f"The rounds leave {share - placed:.0%} of the patches without a place, as they were "
            "masked every time."
        )
    report = {
        "rounds": float(len(updates)),
        "found": share,
        "placed": placed,
        "token_evaluations": float(evaluations),
    }
    return Reconstruction(
        images,
        judged.objective,
        judged.labels,
        judged.calls,
        report,
        tuple(notes),
        draw=draw,
        placed=placed == 1,
    )


def _of_one(seen: Observation, tick: Tick) -> Reconstruction:
    """Solve all rounds together; what stays open is completed by smoothness."""
    vit, updates = seen.model.vit, (seen.update, *seen.later)
    found: list[Ambiguity] = []
    for number, update in enumerate(updates):
        found.append(ambiguity(replace(seen, update=update)))
        tick(number + 1, len(updates), 0.0)
    warnings = [ALONE] if len(updates) == 1 else []
    if seen.shape[0] > 1:
        warnings.append(
            f"A batch of {seen.shape[0]}: the position gradient sums over the images, so this "
            "is one mixture of them, however many rounds there are."
        )
    if all(len(one.basis) == 0 for one in found):
        patches, apart, free = *_vote(found), 0
    else:
        patches, basis, apart = _intersection(found)
        free = basis.shape[1]
        if free:
            patches = complete_columns(patches, basis, vit.patch)
            warnings.append(
                f"The rounds leave {free} dimensions of each patch open, and smoothness "
                "completes them: some patches were masked every time."
            )
    picture = join(patches[None], vit.patch) * vit.std.double() + vit.mean.double()
    return Reconstruction(
        picture.clamp(0, 1).float().expand(seen.shape).clone(),
        objective=apart,
        report={
            "rounds": float(len(updates)),
            "ambiguity": float(free * len(patches)),
            "residual": apart,
        },
        warnings=tuple(warnings),
        placed=free == 0 and any(len(one.basis) for one in found),
    )


def _intersection(
    found: list[Ambiguity],
) -> tuple[Float[Tensor, "n p"], Float[Tensor, "p k"], float]:
    """Return patches nearest to all affine spaces, the directions open in all, and the misfit."""
    p = found[0].origin.shape[1]
    one = torch.eye(p).to(found[0].origin)
    pinned = [one - part.basis.T @ part.basis for part in found]
    values, vectors = torch.linalg.eigh(torch.stack(pinned).sum(0))
    keep = values > OPEN * len(found)
    wanted = torch.stack([part.origin @ q for part, q in zip(found, pinned, strict=True)])
    patches = wanted.sum(0) @ (vectors[:, keep] / values[keep]) @ vectors[:, keep].T
    misses = [(patches - part.origin) @ q for part, q in zip(found, pinned, strict=True)]
    misfit = torch.stack(misses).norm() / wanted.norm().clamp(min=torch.finfo(wanted.dtype).tiny)
    return patches, vectors[:, ~keep], float(misfit)


def _vote(found: list[Ambiguity]) -> tuple[Float[Tensor, "n p"], float]:
    """Return for each place the patch that is nearest to those of all rounds, and the spread."""
    seen = torch.stack([part.origin for part in found], dim=1)  # n rounds p
    apart = torch.cdist(seen, seen).sum(1)
    chosen = apart.argmin(1)
    patches = seen[torch.arange(len(seen)).to(chosen), chosen]
    return patches, float((seen - patches[:, None]).norm() / seen.norm())
