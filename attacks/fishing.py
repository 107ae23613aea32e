"""Fishing for user data (Wen et al., ICML 2022, arXiv:2202.00580), then the closed form.

A malicious server edits the head so that one image of a batch makes nearly all of the gradient.
The paper baits one class: an image of it pulls on the features by that class's row of the head, and
no other image does. Here every class is a bait, and the rows, all along one random direction, form
a ladder in random order: each is longer than the one below by a constant factor, and of the classes
in a batch the highest outweighs the others. Biases keep the probabilities of all but the lowest two
classes at zero, so that nothing depends on the features, and the server needs no data. What is left
is the gradient of one image, and `pe_ls` solves that exactly.

Two images of the highest class still mix, and the paper's second step, a threshold on the features,
takes several updates: of four images with labels drawn from ten classes, one is alone on top in
four of five batches. Many classes stand closer, and neighbors mix, too. The first local step
overwrites the head, so one is all that the client may take.
"""

import copy
from dataclasses import replace
from math import log10
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from privbench.attack import Attack, Tick
from privbench.component import make
from privbench.errors import UnsupportedModel
from privbench.observation import Observation, PublicModel
from privbench.roles import Role
from privbench.threat import Reconstruction

LOWEST, HIGHEST = 1e-32, 1e8
"""Lengths of the lowest and the highest rung. Below, gradients would leave the range of float32;
above, the squares that a client sums to clip them would."""
DEEP = 1e4
"""What a bias is below zero, in units of its row, which is more than features can make up for."""
NEVER = 200.0
"""Score below zero at which a probability is zero in float32."""
ISOLATED = 1e-4
"""Relative residual of the closed form from which on several images share the gradient."""


class Fishing(Attack):
    """Malicious server: an edited head lets one image of a batch dominate; `pe_ls` solves it."""

    paper: ClassVar[str] = "after arXiv:2202.00580"
    version: ClassVar[int] = 2
    roles: ClassVar[frozenset[Role]] = frozenset({Role.POSITIONS, Role.STEM})
    malicious: ClassVar[bool] = True

    def nested(self) -> tuple[str, ...]:
        """Name the closed form."""
        return ("pe_ls",)

    def tamper(self, model: PublicModel, rng: Generator) -> PublicModel:
        """Return the model with another head; raises UnsupportedModel below two classes."""
        vit = copy.deepcopy(model.vit)
        heads = vit.heads
        if vit.classes < 2 or not heads:
            raise UnsupportedModel("fishing edits a head of two classes or more; here is none.")
        way = torch.randn(heads[0].in_features, generator=rng)
        order = torch.randperm(vit.classes, generator=rng)
        rungs = torch.empty(vit.classes)
        rungs[order] = _ladder(vit.classes)
        biases = -(DEEP * rungs + NEVER)
        biases[order[:2]] = 0
        with torch.no_grad():
            for head in heads:  # a distilled model averages two heads
                head.weight.zero_()
                head.bias.zero_()
            heads[0].weight.copy_(len(heads) * rungs[:, None] * way / way.norm())
            heads[0].bias.copy_(len(heads) * biases)
        return PublicModel(vit, model.defense)

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Solve as for one image; the others are left in the mean color."""
        alone = replace(seen, shape=(1, *seen.shape[1:]), labels=None)
        catch = make(Attack, "pe_ls", {}).reconstruct(alone, rng, tick)
        images = seen.model.vit.mean.expand(seen.shape).clone()
        images[0] = catch.images[0]
        warnings = list(catch.warnings)
        if catch.objective > ISOLATED:
            warnings.append(
                "No single image dominates the gradient, so the answer is a mixture, or the update "
                "was altered."
            )
        if seen.shape[0] > 1:
            warnings.append(f"1 of {seen.shape[0]} images was fished for; the rest is mean color.")
        return Reconstruction(
            images, catch.objective, report=catch.report, warnings=tuple(warnings)
        )


def _ladder(classes: int) -> Float[Tensor, " classes"]:
    """Lengths of the rows, from the lowest class to the highest.

    The lowest two classes share all probability, one half each, and their rows differ by twice the
    lowest rung: an image of either pulls by that rung.
    """
    rungs = torch.logspace(log10(LOWEST), log10(HIGHEST), classes - 1)
    return torch.cat([torch.zeros(1), 2 * rungs[:1], rungs[1:]])
