"""Which entries of a pruned tensor are kept ones with noise, and which are noise alone.

The kept ones are a tensor's largest, as many as everybody knows; noise may stand on dropped ones as
well. Sizes are taken to fall off exponentially: with a scale b and a share k of kept entries, these
lie beyond q = b log(1 / k), by b on average. The noise is Gaussian, of standard deviation s. Both
numbers are the likeliest ones for the shared entries.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import log, pi

import torch
from jaxtyping import Float
from torch import Tensor

Entries = Float[Tensor, "*any"]

PLACES = 256
"""Sizes that stand for all of a tensor in a likelihood, evenly spread among the sorted ones."""
NOISES = torch.logspace(-3, 0, 61, dtype=torch.float64)[:-1]
"""Noise that is tried, in units of the root mean square of entries that are not zero."""
SCALES = torch.logspace(-1.5, 0.5, 41, dtype=torch.float64)
"""Scales that are tried, in the same units; in both, steps of 12 %."""
TURNS = 3
"""How often each of the two is chosen at the other one. The first time a scale goes with the noise
that leaves the root mean square as it is: among all pairs one may win that keeps nothing."""


@dataclass(frozen=True)
class Mixture:
    """Law of the entries that are not zero: kept ones with noise, and noise alone."""

    noise: float
    """Standard deviation, s."""
    scale: float
    """Of the exponential law of sizes, b."""
    share: float
    """Of the tensor's entries, those that were kept."""
    seen: float
    """Of the tensor's entries, those that are not zero, at least as many."""

    @property
    def edge(self) -> float:
        """Size from which on entries were kept, q."""
        return self.scale * log(1 / self.share)

    @property
    def floor(self) -> float:
        """Size below which dropped entries stayed without noise."""
        return self.scale * log(1 / self.seen)

    @property
    def dropped(self) -> float:
        """Mean square of dropped entries under noise: evenly spread from floor to edge."""
        low, high = self.floor, self.edge
        return (low**2 + low * high + high**2) / 3

    def kept(self, entries: Entries) -> Entries:
        """Return the chance that an entry, which is not zero, was kept; float64."""
        sizes = entries.double().abs()
        noise, scale = sizes.new_tensor(self.noise), sizes.new_tensor(self.scale)
        own, alone = _logs(sizes, noise, scale, self.share, self.seen)
        return torch.sigmoid(own - alone)


def mixture(tensor: Entries, share: float) -> Mixture:
    """Return the likeliest mixture for a tensor that is not zero everywhere."""
    sizes = tensor.double().abs()
    sizes = sizes[sizes > 0].sort().values
    seen = max(len(sizes) / tensor.numel(), share)
    unit = float(sizes.square().mean().sqrt())
    places = (torch.arange(PLACES) * len(sizes) // PLACES + len(sizes) // (2 * PLACES)).unique()
    some = sizes[places.to(sizes.device)].tolist()
    return Mixture(*_likeliest(tuple(some), unit, share, seen), share, seen)


@lru_cache(maxsize=1024)
def _likeliest(
    sizes: tuple[float, ...], unit: float, share: float, seen: float
) -> tuple[float, float]:
    """Return noise and scale; kept, as each attack of an ensemble asks about the same update."""
    some = torch.tensor(sizes, dtype=torch.float64)[:, None]
    noises, scales = unit * NOISES, unit * SCALES
    edge = log(1 / share)
    power = share / seen * (edge**2 + 2 * edge + 2)  # mean square of kept ones, in squares of b
    scale = ((unit**2 - noises.square()) / power).sqrt()
    noise = noises
    for _ in range(TURNS):
        noise = noises[_likelihoods(some, noises, scale, share, seen).argmax()]
        scale = scales[_likelihoods(some, noise, scales, share, seen).argmax()]
    return float(noise), float(scale)


def _likelihoods(
    sizes: Tensor, noise: Tensor, scale: Tensor, share: float, seen: float
) -> Float[Tensor, " m"]:
    """Return the mean log likelihood of sizes, a column, for each noise and scale."""
    return torch.logaddexp(*_logs(sizes, noise, scale, share, seen)).mean(0)


def _logs(
    sizes: Tensor, noise: Tensor, scale: Tensor, share: float, seen: float
) -> tuple[Tensor, Tensor]:
    """Return log densities of sizes, with their chance: of kept ones, and of noise alone.

    The sum of a normal number and an exponential one has a closed density; a kept entry's noise may
    turn its sign.
    """
    kept, edge = min(share / seen, 1.0), scale * log(1 / share)

    def beyond(distance: Tensor) -> Tensor:
        tail = (noise / scale).square() / 2 - distance / scale - scale.log()
        return tail + torch.special.log_ndtr(distance / noise - noise / scale)

    own = torch.logaddexp(beyond(sizes - edge), beyond(-sizes - edge)) + log(kept)
    alone = log(2 / pi) / 2 - noise.log() - (sizes / noise).square() / 2
    return own, alone + (log(1 - kept) if kept < 1 else -torch.inf)
