"""Where the patches of a set stand: in the order that the prior of pictures likes best.

Masked patches enter a model in no order, and no gradient knows one. Given the shown patches the
masked ones are jointly Gaussian, so an order costs a quadratic form in them, whose change by an
exchange of two takes four small blocks of its matrix.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from privbench.attacks._map.posterior import Posterior
from privbench.jacobian import Unknowns

OFF = 0.03
"""Standard deviation of what a patch is off, in units of a pixel's range: of those that `Spans`
finds at noise of 1 %, three in four are nearer (trained `vit_mjp`)."""
KICKS, KICKED = 40, 5
"""Orders from which one goes on, each by exchanging so many pairs of the best one at random."""


class Seats:
    """The masked places of one picture under the prior."""

    def __init__(self, posterior: Posterior, masked: Bool[Tensor, " n"]) -> None:
        """Take the mask of the picture's patches."""
        places, masked = posterior.places()[0], masked.cpu()
        self.mean, self.places = posterior.mean, places[masked]
        self.shown, inside = places[~masked].flatten(), self.places.flatten()
        precision = torch.cholesky_inverse(posterior.half)
        root = torch.linalg.cholesky(precision[inside][:, inside])
        whole = torch.cholesky_inverse(root)
        self.pull = whole @ precision[inside][:, self.shown]
        noise = OFF**2 * torch.eye(len(whole)).to(whole)
        m, p = self.places.shape
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(whole + noise))
        self.blocks: Float[Tensor, "m m p p"] = inverse.view(m, p, m, p).transpose(1, 2)

    def ordered(self, at: Unknowns, rng: Generator) -> Unknowns:
        """Return unknowns with the masked patches where the prior wants them."""
        away = (at[: len(self.mean)].double() - self.mean)[self.shown]
        expected = self.mean[self.places] - (self.pull @ away).view(self.places.shape)
        patches = at[self.places].double()
        best, least = self._down(patches, expected, torch.arange(len(patches)))
        for _ in range(KICKS):
            start = best.clone()
            for _ in range(KICKED):
                pair = torch.randperm(len(start), generator=rng)[:2]
                start[pair] = start[pair.flip(0)]
            order, cost = self._down(patches, expected, start)
            if cost < least:
                best, least = order, cost
        found = at.clone()
        found[self.places] = patches[best].to(at)
        return found

    def _down(
        self,
        patches: Float[Tensor, "m p"],
        expected: Float[Tensor, "m p"],
        order: Int[Tensor, " m"],
    ) -> tuple[Int[Tensor, " m"], float]:
        """Exchange the pair that gains most, as long as one does; return order and cost."""
        order, own = order.clone(), self.blocks.diagonal(dim1=0, dim2=1).permute(2, 0, 1)
        while True:
            here = patches[order]
            off = here - expected
            slope = torch.einsum("abpq,bq->ap", self.blocks, off)
            change = here - here[:, None]  # of seat a, by what is on seat b
            each = torch.einsum("abp,apq,abq->ab", change, own, change) / 2
            cross = torch.einsum("abp,abpq,abq->ab", change, self.blocks, change)
            first = torch.einsum("abp,ap->ab", change, slope)
            gain = first + first.T + each + each.T - cross
            a, b = divmod(int(gain.argmin()), len(order))
            if gain[a, b] > -1e-9:
                return order, float((off * slope).sum()) / 2
            order[[a, b]] = order[[b, a]]
