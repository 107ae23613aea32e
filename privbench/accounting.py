"""What differential privacy a defense's noise gives, in epsilon at a delta.

The Gaussian mechanism is exact (Balle and Wang, arXiv:1805.06530, theorem 8), also over many steps
on all data; steps on random parts of it take Opacus' accountant (pip install privbench[dp]).
"""

from dataclasses import dataclass
from importlib import import_module
from math import exp, inf, log, sqrt
from typing import Literal

from privbench.errors import BadSetting

LOWEST, HIGHEST = -40, 60
"""Powers of two between which an epsilon is looked for."""
ORDERS = [1 + n / 10 for n in range(1, 100)] + [float(n) for n in range(11, 513)]
"""Of Renyi divergences: a finer grid than Opacus' own, whose upper end is 63."""


@dataclass(frozen=True)
class Privacy:
    """What the noise in one update guarantees."""

    protects: Literal["example", "update"]
    """Whose absence nobody notices: one example's, or the whole update's of a client."""
    epsilon: float
    """At the delta that was asked for; infinite without a guarantee."""
    noise: float | None = None
    """Standard deviation over sensitivity of a Gaussian mechanism, by which steps add up."""
    claimed: float | None = None
    """The epsilon that the settings name, where they name one."""


def gaussian_delta(epsilon: float, noise: float) -> float:
    """Return the exact delta of Gaussian noise of a standard deviation, over the sensitivity."""
    from scipy.special import log_ndtr

    half, whole = 1 / (2 * noise), epsilon * noise
    lost = exp(float(log_ndtr(half - whole)))
    return max(0.0, lost - exp(min(0.0, epsilon + float(log_ndtr(-half - whole)))))


def gaussian_epsilon(noise: float, delta: float, steps: int = 1) -> float:
    """Return the exact epsilon at a delta of several steps with the same noise; raises BadSetting.

    Gaussian mechanisms in a row are one, whose noise is smaller by the root of their number.
    """
    check_delta(delta)
    if noise <= 0:
        return inf
    alone = noise / sqrt(steps)
    if gaussian_delta(0.0, alone) <= delta:
        return 0.0
    low, high = LOWEST, HIGHEST
    if gaussian_delta(2.0**high, alone) > delta:
        return inf
    from scipy.optimize import root_scalar

    found = root_scalar(
        lambda power: gaussian_delta(2.0**power, alone) - delta,
        bracket=(low, high),
        method="brentq",
        xtol=1e-12,
    )
    return 2.0 ** float(found.root)


def sampled_epsilon(noise: float, rate: float, steps: int, delta: float) -> float | None:
    """Return an upper bound of epsilon where each step takes each example by chance.

    Poisson sampling with that rate; by Renyi divergences. None without Opacus.
    """
    check_delta(delta)
    if not 0 < rate <= 1:
        raise BadSetting(f"A sampling rate is a share above 0 and up to 1, not {rate:g}.")
    if noise <= 0:
        return inf
    if rate == 1:
        return gaussian_epsilon(noise, delta, steps)
    try:
        rdp = import_module("opacus.accountants.analysis.rdp")
    except ImportError:
        return None
    spent = rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=steps, orders=ORDERS)
    return float(rdp.get_privacy_spent(orders=ORDERS, rdp=spent, delta=delta)[0])


def classical_sigma(epsilon: float, delta: float) -> float:
    """Return the noise over sensitivity that textbooks give for epsilon below one.

    Dwork and Roth, theorem A.1; frameworks take it for any epsilon.
    """
    return sqrt(2 * log(1.25 / delta)) / epsilon


def check_delta(delta: float) -> None:
    """Refuse a delta that is no probability between zero and one; raises BadSetting."""
    if not 0 < delta < 1:
        raise BadSetting(f"A delta is a probability above 0 and below 1, not {delta:g}.")
