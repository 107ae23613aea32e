"""Proves a picture without the truth: a step on it gives the update, one on a neighbor does not."""

from collections.abc import Mapping

from jaxtyping import Int
from torch import Generator, Tensor

from privbench.auditing.settling import on_grid
from privbench.auditing.update import Difference
from privbench.observation import Observation
from privbench.pixels import neighbor
from privbench.running.client import local_update
from privbench.threat import Images

ARITHMETIC = 2e-5
"""Of a tensor's size, what float32 arithmetic in another order leaves in each entry."""
EXPLAINED = 4.0
"""Mean squared error in units of rounding up to which a tensor is explained; rounding never
exceeds 3, the square of half a step over its standard deviation."""
SURE = 100.0
"""By how much a neighbor has to raise the squared error in those units: ten deviations."""
NEIGHBORS = 3


class Proof:
    """Compares pictures' steps with one update, in units of what rounding leaves of it."""

    def __init__(self, seen: Observation, update: Difference, rng: Generator) -> None:
        self.seen, self.rng = seen, rng
        self.shared = {name: one.double() for name, one in seen.update.tensors.items()}
        self.noise: dict[str, Tensor] = {}
        for name, one in self.shared.items():
            size = ARITHMETIC * one.square().mean().sqrt()
            rounding = update.rounding.get(name)
            extra = 0.0 if rounding is None else rounding.to(one)
            self.noise[name] = (size**2 + extra**2).sqrt() if rounding is not None else size

    def distance(self, images: Images, labels: Int[Tensor, " b"]) -> float:
        """Squared difference of a picture's step and the update, relative to the update."""
        errors, size = 0.0, 0.0
        for name, found in self._step(images, labels).items():
            errors += float((found - self.shared[name]).square().sum())
            size += float(self.shared[name].square().sum())
        return errors / size

    def proves(self, images: Images, labels: Int[Tensor, " b"]) -> bool:
        """Whether pictures on the grid are the private ones, as far as the model sees them."""
        picture = on_grid(images)
        here = self._errors(picture, labels)
        if not all(one <= EXPLAINED * self.shared[name].numel() for name, one in here.items()):
            return False
        total = sum(here.values())
        for _ in range(NEIGHBORS):
            there = self._errors(neighbor(picture, self.rng), labels)
            if sum(there.values()) - total < SURE:
                return False
        return True

    def _errors(self, images: Images, labels: Tensor) -> dict[str, float]:
        found = self._step(images, labels)
        return {
            name: float(((one - self.shared[name]) / self.noise[name]).square().sum())
            for name, one in found.items()
        }

    def _step(self, images: Images, labels: Int[Tensor, " b"]) -> Mapping[str, Tensor]:
        """Return what the client would send, at the scale that fits best.

        The rate may be unknown, and is no evidence.
        """
        found = {name: one.double() for name, one in self._sent(images, labels).items()}
        dot = sum(float((one * self.shared[name]).sum()) for name, one in found.items())
        size = sum(float(one.square().sum()) for one in found.values())
        return {name: one * (dot / size if size else 0.0) for name, one in found.items()}

    def _sent(self, images: Images, labels: Int[Tensor, " b"]) -> Mapping[str, Tensor]:
        model, protocol = self.seen.model, self.seen.protocol
        if protocol.local_steps == 1 and protocol.optimizer == "sgd":
            return model.gradient(images, labels, of=tuple(self.shared), differentiable=False)
        found = local_update(model, images, labels, None, protocol, self.rng)
        return {name: found[name] for name in self.shared}
