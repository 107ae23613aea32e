"""Unmix: the private pictures behind a batch of mixtures, by one small linear system.

Mixed pictures are exact network inputs for `peel`, which asks for no label. With each input's
features the head's gradient gives what it was trained on, and that is the mixture's shares by
class: where no two pictures have one class, these are the mixing matrix, and its inverse takes the
inputs apart. Where pixels have random signs (InstaHide), the grid of 256 levels and the likeness of
neighbors tell them (`_peel/signs`).
"""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from privbench.attack import Attack, Tick
from privbench.attacks._peel.judge import soft_of_each
from privbench.attacks._peel.signs import MOST, unflipped
from privbench.attacks._update.mixing import as_draw, flips
from privbench.attacks._update.reading import mask
from privbench.attacks.peel import Peel
from privbench.observation import Observation
from privbench.pixels import rounded
from privbench.roles import Role
from privbench.threat import Images, Reconstruction

SURE = 0.02
"""Share of all labels that may lie outside as many classes as there are pictures; set by reason."""
ON_GRID = 0.2
"""Root mean square distance from the 256 levels, in levels, below which pictures are rounded: of
any other pixels it is 0.29."""
CONDITION = 1e4
"""Of the mixing matrix, beyond which its inverse gives noise."""


Mixing = Float[Tensor, "b b"]
"""Inputs by pictures."""


class Unmix(Attack):
    """Mixtures of a batch (mixup, InstaHide) taken apart: inputs by `peel`, shares by the head."""

    paper: ClassVar[str] = "privbench; signs after Carlini et al., arXiv:2011.05315"
    version: ClassVar[int] = 2
    roles: ClassVar[frozenset[Role]] = frozenset({Role.STEM, Role.TOKENS})
    instead: ClassVar[tuple[str, ...]] = ("peel",)

    rounds: Annotated[int, Field(ge=1)] = 40
    """Of `peel`."""
    starts: Annotated[int, Field(ge=1)] = 128
    """Of `peel`, in a round."""

    def nested(self) -> tuple[str, ...]:
        """Name the attack that finds the network inputs."""
        return ("peel",)

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Find the inputs, read their shares, and solve; mixtures where that is not possible."""
        found = Peel(rounds=self.rounds, starts=self.starts).inputs(seen, rng, tick)
        inputs, share = found.images, found.share
        shares = soft_of_each(seen, inputs, mask(seen)) if share == 1 else None
        report = {"found": share, "token_evaluations": float(found.evaluations)}
        if shares is None:
            note = "The network inputs or their shares are not known: nothing was taken apart."
            return Reconstruction(inputs, float("inf"), report=report, warnings=(note,))
        apart, outside, condition = unmixed(inputs, shares)
        report |= {"condition": condition, "outside": outside}
        if apart is None:
            note = (
                "The mixtures are left as they are: two pictures have one class, shares are equal, "
                "or the update was scaled."
            )
            return Reconstruction(inputs, outside, report=report, warnings=(note,))
        known, pictures = classes(shares), apart.clamp(0, 1)
        if flips(seen) and not torch.equal(apart, rounded(apart)):
            both = unflipped(inputs, shares[:, known])
            if both is None:
                note = f"More than {MOST} mixtures with signs of their own: left as they are."
                return Reconstruction(inputs, outside, report=report, warnings=(note,))
            picture = positive(seen, both.clamp(0, 1), known)
            return Reconstruction(picture, outside, known, 2, report)
        mixing = refined(inputs, pictures, shares[:, known])
        draw = as_draw(seen, mixing)
        return Reconstruction(pictures, outside, known, report=report, draw=draw)


def positive(seen: Observation, pictures: Images, known: Tensor) -> Images:
    """Return pictures or their negatives, which no mixture tells apart: as the network sees them.

    Pictures of a class that it knows have less loss than their negatives.
    """
    with torch.no_grad():
        losses = [cross_entropy(seen.model.logits(one), known) for one in (pictures, 1 - pictures)]
    return pictures if losses[0] <= losses[1] else 1 - pictures


def refined(inputs: Images, pictures: Images, mixing: Mixing) -> Mixing:
    """Return the mixing matrix that the pictures themselves show, if they are on the 8-bit grid.

    It is known from thousands of pixels then, and as well as the inputs are.
    """
    if not torch.equal(pictures, rounded(pictures)):
        return mixing
    columns, wanted = (t.flatten(1).double().T for t in (pictures, inputs))
    return torch.linalg.lstsq(columns, wanted).solution.T


def classes(shares: Float[Tensor, "b c"]) -> Tensor:
    """Return the classes that hold most, as many as there are pictures."""
    return shares.sum(0).topk(len(shares)).indices.sort().values


def unmixed(inputs: Images, shares: Float[Tensor, "b c"]) -> tuple[Images | None, float, float]:
    """Return pictures, the share of labels outside their classes, and the matrix's condition.

    No pictures where shares are not those of as many classes as there are pictures, or cannot be
    inverted.
    """
    b, c = shares.shape
    if b > c:
        return None, float("inf"), float("inf")
    mixing = shares[:, classes(shares)]  # inputs, pictures
    outside = float((shares.abs().sum() - mixing.clamp(min=0).sum()) / b)
    condition = float(torch.linalg.cond(mixing))
    # all shares of a picture make one, give or take what other mixtures hold of it
    scarce = bool((mixing.sum(0) < 0.25).any())
    if outside > SURE or not condition < CONDITION or scarce:
        return None, outside, condition
    solved = torch.linalg.solve(mixing, inputs.flatten(1).double())
    pictures = solved.view_as(inputs).to(inputs)
    exact = rounded(pictures.clamp(0, 1))
    near = float(255 * (pictures - exact).square().mean().sqrt()) < ON_GRID
    return exact if near else pictures, outside, condition
