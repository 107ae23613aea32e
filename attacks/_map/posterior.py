"""How improbable pictures are, given all entries of an update, their errors and a prior.

A gradient is linear in the slopes of the loss at the logits, which are q - y for cross-entropy.
They are unknowns of their own here: tied to the picture by a softmax they would make the update's
size, and all of its entries, depend on it exponentially.
"""

from collections.abc import Mapping
from copy import copy
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.func import functional_call

from privbench.attacks._map.low_rank import Weighing, low_rank, weighed
from privbench.attacks._update.reading import from_pictures, in_its_units
from privbench.attacks._update.stated import of_defense
from privbench.attacks._update.wire import errors
from privbench.client_step import ClientStep, Gradient
from privbench.errors import BadUpdate
from privbench.jacobian import Jacobian, Unknowns, precision
from privbench.observation import Observation
from privbench.patches import cut
from privbench.prior import covariance
from privbench.threat import Images, Randomness

LEAST = 1e-4
"""Error that every entry is taken to have, as a share of its tensor's root mean square; set by
reason: far below the noise that this attack is for, far above float32's."""

Square = Float[Tensor, "k k"]


class Posterior:
    """Minus the logarithm of a posterior over pixels and slopes, but for a constant."""

    def __init__(self, seen: Observation, draw: Randomness | None) -> None:
        """Read the update; raises BadUpdate where it holds nothing."""
        vit = seen.model.vit
        self.shape, self.pixels = seen.shape, seen.shape[0] * 3 * vit.side**2
        self.data = from_pictures(seen)
        self.known = _precision(seen, self.data)
        self.low = {n: low for n, low in low_rank(seen).items() if n in self.data}
        self.weighings = {n: Weighing(v, self.data[n], self.known[n]) for n, v in self.low.items()}
        self.data = weighed(self.weighings, self.data)
        self.by_tensor = seen.model.defense.by_tensor
        self.entries = sum(int((one > 0).sum()) for one in self.known.values())
        power = sum(
            float((w * self.data[n].square()).double().sum()) for n, w in self.known.items()
        )
        self.whole = power / max(self.entries, 1)
        """What the data's share of the cost per entry is where nothing is explained."""
        if not self.entries:
            raise BadUpdate("The shared tensors are zero: nothing is known of the picture.")
        self.step = ClientStep(vit, seen.model.defense).apart()
        self.draw = None if draw is None else draw.to(vit.mean.device)
        self.blank = vit.mean.new_zeros(seen.shape[0], vit.classes)
        self.weights = {n: self.step.vit.get_parameter(n).detach().clone() for n in self.data}
        self.mean = vit.mean.double().expand(seen.shape).flatten()
        self.half = torch.linalg.cholesky(covariance(vit))  # k k

    def places(self) -> Int[Tensor, "b n p"]:
        """Return which unknowns the victim's patches of each picture are, on a CPU."""
        numbers = torch.arange(self.pixels, dtype=torch.float64)
        return cut(numbers.view(self.shape), self.step.vit.patch).long()

    def without_seats(self, masked: Bool[Tensor, " n"]) -> "Posterior":
        """Return it with masked patches of one picture independent of all others, as in a set.

        Where such a patch stands says nothing then of what is on it.
        """
        other = copy(self)
        places = self.places()[0, masked.cpu()]
        group = torch.full((self.pixels,), -1)
        group[places] = torch.arange(len(places))[:, None]
        group = group.to(self.half.device)
        whole = self.half @ self.half.T
        other.half = torch.linalg.cholesky(torch.where(group[:, None] == group, whole, 0.0))
        return other

    def logits(self, weights: Mapping[str, Tensor], images: Images) -> Tensor:
        """Answers of the network that a client runs, b x classes."""
        named = {f"vit.{name}": tensor for name, tensor in weights.items()}
        return functional_call(self.step, named, (images, self.blank, self.draw))[1].logits

    def loss(self, weights: Gradient, unknowns: Unknowns) -> Float[Tensor, ""]:
        """Return a loss whose gradient in the weights is the update."""
        images, slopes = self.split(unknowns)
        return (self.logits(weights, images) * slopes).sum()

    def split(self, unknowns: Unknowns) -> tuple[Images, Tensor]:
        """Return pictures and slopes."""
        pixels, slopes = unknowns[: self.pixels], unknowns[self.pixels :]
        return pixels.view(self.shape), slopes.view(self.blank.shape)

    def join(self, images: Images, slopes: Float[Tensor, "b classes"]) -> Unknowns:
        """Return unknowns, the slopes brought to the update's scale by least squares."""
        both = torch.cat([images.flatten(), slopes.flatten()])
        found = self.here(both).gradient
        dot = sum(
            float((w * self.data[n] * found[n]).double().sum()) for n, w in self.known.items()
        )
        size = sum(float((w * found[n].square()).double().sum()) for n, w in self.known.items())
        return torch.cat([images.flatten(), slopes.flatten() * (dot / size if size else 1.0)])

    def here(self, unknowns: Unknowns) -> Jacobian:
        """Return how the update changes with the unknowns."""
        then = partial(weighed, self.weighings) if self.weighings else None
        return Jacobian(self.loss, self.weights, unknowns, then)

    def value(self, unknowns: Float[Tensor, " k"]) -> tuple[float, Float[Tensor, " k"], float]:
        """Return the cost, its gradient, float64, and the data's share of it per entry: 1 if right.

        One evaluation of the model's gradient, and one backward pass through it.
        """
        at = unknowns.float().requires_grad_()
        weights = {name: tensor.requires_grad_() for name, tensor in self.weights.items()}
        with torch.enable_grad():
            loss = self.loss(weights, at)
            found = torch.autograd.grad(
                loss, list(weights.values()), create_graph=True, materialize_grads=True
            )
            slopes = weighed(self.weighings, dict(zip(weights, found, strict=True)))
            parts = [
                (self.known[name] * (self.data[name] - slope).square()).double().sum()
                for name, slope in slopes.items()
            ]
            misfit = torch.stack(parts).sum()
            pull = torch.autograd.grad(misfit / 2, at)[0].double()
        white = self.whitened(unknowns)
        pull[: self.pixels] += self.unwhitened(white).flatten()
        cost = float(misfit.detach()) / 2 + float(white.square().sum()) / 2
        return cost, pull, float(misfit.detach()) / self.entries

    def whitened(self, unknowns: Float[Tensor, " k"]) -> Float[Tensor, "q b"]:
        """Return L^-1 (x - mean) for each picture, where the prior's covariance is L L^T."""
        away = unknowns[: self.pixels].double() - self.mean
        columns = away.view(self.shape[0], -1).T
        return torch.linalg.solve_triangular(self.half, columns, upper=False)

    def unwhitened(self, white: Float[Tensor, "q b"]) -> Float[Tensor, "b q"]:
        return torch.linalg.solve_triangular(self.half.T, white, upper=True).T

    def spread(self, unknowns: Unknowns) -> Square:
        """Return L for each picture, and the slopes' own size: coordinates of the prior."""
        _, slopes = self.split(unknowns)
        sizes = slopes.double().norm().expand(slopes.numel())
        return torch.block_diag(*[self.half] * self.shape[0], torch.diag(sizes))

    def precision(self) -> Square:
        """Inverse covariance of the prior, which says nothing of the slopes."""
        one = torch.cholesky_inverse(self.half)
        rest = one.new_zeros(self.blank.numel(), self.blank.numel())
        return torch.block_diag(*[one] * self.shape[0], rest)


def _precision(seen: Observation, data: Mapping[str, Tensor]) -> Gradient:
    """One over the variance of each entry's error, zero where the defense made the entry."""
    defense, shared = seen.model.defense, seen.update.tensors
    told = [in_its_units(seen, data, one) for one in (of_defense(seen), errors(seen))]
    found = precision(data, told, defense.measured(shared), LEAST)
    return {name: one.to(data[name]) for name, one in found.items()}
