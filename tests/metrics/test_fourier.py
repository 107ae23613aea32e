"""FFT2D of the MJP paper: the released formula and the corrected one, against other arithmetic."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine
from torch import Generator, Tensor

from privbench.component import make
from privbench.metric import Metric, Target

BOTH = ("fft2d_mjp", "fft2d_hermitian")


def score(name: str, found: Tensor, truth: Tensor) -> list[float]:
    target = Target(truth, truth, moved=False, patch=1)
    return make(Metric, name, {}).score(found, target).tolist()


def row(*pixels: float) -> Tensor:
    """One picture of a single row, the same in all channels."""
    return torch.tensor(pixels).expand(1, 3, 1, len(pixels))


def test_values_worked_out_by_hand():
    """Turned by 180 degrees, which keeps pixel 0, (1, .5, 0) is (1, 0, .5).

    So sum F F is 3 (1 + 0 + 0) times 3 pixels, and sum F G of both is 1.25 times as much; their
    plain product is 1, and the squares of each sum to 1.25.
    """
    one, turned = row(1, 0.5, 0), row(1, 0, 0.5)
    assert score("fft2d_mjp", turned, one) == [pytest.approx(1.25 - 1)]
    assert score("fft2d_hermitian", turned, one) == [pytest.approx(1 - 1 / 1.25)]


@pytest.mark.parametrize("side", [7, 8])
def test_both_equal_their_formula_in_other_arithmetic(side):
    rng = Generator().manual_seed(side)
    found, truth = torch.rand(2, 5, 3, side, side, generator=rng)
    released = []
    for a, b in zip(found.double().numpy(), truth.double().numpy(), strict=True):
        u, v = (np.fft.fft2(one, axes=(1, 2)).ravel() for one in (a, b))
        means = [np.average(one) for one in (u * v, np.square(u), np.square(v))]
        released.append(abs(1 - means[0] / np.sqrt(means[1] * means[2])))
    pixels = [cosine(a.ravel(), b.ravel()) for a, b in zip(found, truth, strict=True)]
    assert score("fft2d_mjp", found, truth) == pytest.approx(released, rel=1e-5)
    assert score("fft2d_hermitian", found, truth) == pytest.approx(pixels, rel=1e-4)
    assert score("fft2d_mjp", found, truth) != pytest.approx(pixels, rel=0.1)


def test_only_the_released_form_takes_a_turned_picture_for_another_of_the_same_kind():
    truth = torch.rand(1, 3, 8, 8, generator=Generator().manual_seed(0))
    turned = truth.flip(2, 3).roll((1, 1), (2, 3))
    [correct] = score("fft2d_hermitian", turned, truth)
    [released] = score("fft2d_mjp", turned, truth)
    f = truth.double().flatten()
    reflected = turned.double().flatten()
    assert correct == pytest.approx(1 - (f @ reflected / (f @ f)).item(), rel=1e-5)
    assert released == pytest.approx((f @ f / (f @ reflected)).item() - 1, rel=1e-5)


@pytest.mark.parametrize("name", BOTH)
def test_a_black_picture_has_a_score(name):
    black, grey = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)
    assert score(name, black, black) == [0.0]
    assert score(name, black, grey) == [1.0]
    assert score(name, grey, grey) == [0.0]
