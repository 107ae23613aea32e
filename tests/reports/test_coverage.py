"""How often the bootstrap interval holds the true mean, by simulation."""

import numpy as np
import pytest

from privbench.reports.stats import mean_intervals

pytestmark = pytest.mark.slow
TRIALS = 2000


def coverage(draw, n: int, seed: int = 0) -> float:
    """Share of intervals of samples of n that hold the mean of what is drawn."""
    rng = np.random.default_rng(seed)
    truth = float(draw(rng, 2_000_000).mean())
    samples = [draw(rng, n).tolist() for _ in range(TRIALS)]
    return float(np.mean([low <= truth <= high for _, low, high in mean_intervals(samples)]))


def spread(rng: np.random.Generator, n: int) -> np.ndarray:
    """PSNR as an attack has it that works on some pictures better than on others."""
    return rng.normal(30.0, 8.0, n)


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    return 10.0 + rng.exponential(8.0, n)


def capped(rng: np.random.Generator, n: int) -> np.ndarray:
    """Nine pictures of ten exact, at the cap of 100 dB, the others anywhere below."""
    return np.where(rng.random(n) < 0.9, 100.0, rng.uniform(20.0, 90.0, n))


@pytest.mark.parametrize("draw", [spread, skewed])
def test_a_hundred_pictures_have_the_coverage_that_is_claimed(draw):
    assert 0.93 <= coverage(draw, 100) <= 0.97


@pytest.mark.parametrize(
    ("n", "lowest", "highest"), [(24, 0.91, 0.96), (8, 0.85, 0.92)], ids=["24", "8"]
)
def test_fewer_pictures_have_less(n, lowest, highest):
    """The percentile bootstrap is too narrow by about the square root of (n - 1) / n."""
    assert lowest <= coverage(spread, n) <= highest


@pytest.mark.parametrize(
    ("n", "lowest", "highest"), [(100, 0.91, 0.95), (24, 0.80, 0.88), (8, 0.5, 0.6)], ids=str
)
def test_at_the_cap_an_interval_of_few_pictures_says_too_much(n, lowest, highest):
    """Eight pictures are all exact in 43 % of the samples, and their interval is then a point."""
    assert lowest <= coverage(capped, n) <= highest
