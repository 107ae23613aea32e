"""What Gaussian noise on a clipped gradient leaves, whatever attack, network and weights there are.

A gradient of norm at most C, noise of standard deviation z C on every entry: z is the noise of
`Privacy`. None of these needs a Jacobian, and none is as low as what one network leaves.
"""

from math import log1p

import torch
from jaxtyping import Float
from torch import Tensor

from privbench.threat import Images

AMONG = 10
"""Equally likely pictures, of which the client holds one: Hayes et al. take as many."""


def named(noise: float, prior: float = 1 / AMONG) -> float:
    """Return the highest chance of an answer that counts as right, where a blind one has `prior`.

    Hayes, Mahloujifar and Balle (arXiv:2302.07225), for one step on a known batch: no event of
    chance `prior` without the picture has a greater one with it than Phi(Phi^-1(prior) + 1 / z),
    Neyman and Pearson's for two Gaussians 1 / z apart (in closed form: arXiv:2307.03928).
    """
    from scipy.special import ndtr, ndtri

    return float(ndtr(ndtri(prior) + 1 / noise))


def unaided(
    noise: float,
    image: Images,
    mean: Float[Tensor, "1 3 1 1"],
    std: Float[Tensor, "1 3 1 1"],
) -> float:
    """Return the mean squared error without a prior, of a gradient that is the picture itself.

    After Ziller et al. (arXiv:2402.12861): a malicious server has a first layer whose gradient is
    a multiple of its input, scaled until it is clipped, and reads it off without bias. Every number
    of the input is then off by z times the input's norm.
    """
    fed = (image - mean) / std
    return noise**2 * float(fed.double().square().sum()) * float(std.double().square().mean())


def informed(noise: float, entries: int, variances: Float[Tensor, " k"]) -> float:
    """Return the least mean squared error for pictures of a Gaussian with these variances.

    Own derivation. Whatever the network encodes, so many noisy entries of bounded power carry
    (m / 2) log(1 + 1 / (m z^2)) nats of it at most, as a Gaussian channel does, and below the
    Gaussian's rate-distortion function at that rate no estimate gets: all directions keep the
    same error t, and those of less variance their own.
    """
    rate = entries / 2 * log1p(1 / (entries * noise**2))
    found = variances.double().clamp(min=torch.finfo(torch.float64).tiny).sort(descending=True)[0]
    logs, count = found.log(), torch.arange(1, len(found) + 1).to(found)
    levels = (logs.cumsum(0) - 2 * rate) / count
    used = int((levels < logs).sum())  # each further direction is used while it lies above
    level = levels[used - 1].exp()
    return float(torch.minimum(found, level).mean())
