"""The smoothness prior and what rounding and noise say of themselves."""

import pytest
import torch
from torch import Generator

from privbench.attacks._linear.smooth import (
    Smoothness,
    complete_columns,
    complete_rows,
    conjugate_gradients,
)
from privbench.attacks._update.noise import deviations, grid, rounding
from privbench.patches import cut

SIDE = 4


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=Generator().manual_seed(seed))


def picture(seed=0):
    """A smooth picture with one sharp edge, as patches."""
    lines = torch.linspace(-1, 1, 16, dtype=torch.float64)
    down, across = torch.meshgrid(lines, lines, indexing="ij")
    image = torch.stack([down * across, down, across])
    image[:, :, 9:] += 1
    return cut((image + 0.01 * random(3, 16, 16, seed=seed))[None], SIDE)[0]


@pytest.fixture
def prior():
    found = Smoothness(picture(), SIDE)
    found.fit(picture())
    return found


def test_the_form_is_the_weighted_sum_of_squares(prior):
    patches = random(16, 48)
    down, across = prior._differences(patches)
    energy = (prior.down * down.square()).sum() + (prior.across * across.square()).sum()
    torch.testing.assert_close((patches * prior.form(patches)).sum(), energy)
    other = random(16, 48, seed=1)
    torch.testing.assert_close(
        (other * prior.form(patches)).sum(), (patches * prior.form(other)).sum()
    )


def test_waves_are_a_rotation(prior):
    patches = random(16, 48)
    waves = prior.to_waves(patches)
    torch.testing.assert_close(prior.from_waves(waves), patches)
    torch.testing.assert_close(waves.norm(), patches.norm())


def test_an_edge_counts_less_than_noise(prior):
    assert prior.across[..., 8].max() < 0.1 * prior.across[..., 2].min()


def test_conjugate_gradients_solve():
    root = random(20, 20)
    form = root @ root.T + torch.eye(20)
    wanted, zero = random(20, 3), torch.zeros(20, 3, dtype=torch.float64)
    scale = form.diagonal()[:, None]
    found = conjugate_gradients(
        lambda z: form @ z, wanted, zero, lambda r: r / scale, tolerance=1e-12
    )
    torch.testing.assert_close(found, torch.linalg.solve(form, wanted))


def test_conjugate_gradients_stop_where_the_form_is_flat():
    keeps = torch.tensor([[1.0], [1.0], [0.0]], dtype=torch.float64)
    wanted = torch.tensor([[2.0], [3.0], [1e-12]], dtype=torch.float64)  # the last is rounding
    found = conjugate_gradients(
        lambda z: keeps * z, wanted, torch.zeros_like(wanted), lambda r: r, tolerance=1e-14
    )
    torch.testing.assert_close(found, keeps * wanted)


def test_completion_keeps_what_is_known_and_finds_the_rest():
    truth = picture()
    rows = torch.linalg.qr(random(16, 16)).Q
    columns = torch.linalg.qr(random(48, 48)).Q
    known = truth - rows[:, :3] @ rows[:, :3].T @ truth
    found = complete_rows(known, rows[:, :3], SIDE)
    torch.testing.assert_close(rows[:, 3:].T @ found, rows[:, 3:].T @ truth)
    assert (found - truth).norm() < 0.4 * (known - truth).norm()
    known = truth - truth @ columns[:, :6] @ columns[:, :6].T
    found = complete_columns(known, columns[:, :6], SIDE)
    torch.testing.assert_close(found @ columns[:, 6:], truth @ columns[:, 6:])
    assert (found - truth).norm() < 0.5 * (known - truth).norm()


@pytest.mark.parametrize(
    ("format", "bits", "name"), [(torch.bfloat16, 8, "bfloat16"), (torch.float16, 11, "float16")]
)
def test_a_rounded_tensor_tells_its_grid_and_its_error(format, bits, name):
    exact = random(400, 50) * 10 ** random(400, 1)
    rounded = exact.to(format)
    assert grid(rounded) == name
    errors = (rounded.double() - exact) / rounding(rounded, bits)
    assert errors.std() == pytest.approx(1, rel=0.05)
    assert errors.abs().max() <= 3**0.5 * 1.001
    assert grid(exact) is None
    assert grid(exact.float()) is None


def test_float16_below_its_normal_range_has_one_step():
    exact = 3e-6 * random(4000)
    rounded = exact.to(torch.float16)
    steps = rounding(rounded, 11) * 12**0.5
    assert steps.min() == 2**-24
    assert ((rounded.double() - exact).abs() <= steps / 2 * 1.001).all()


def test_noise_is_measured_where_gradients_sum_to_zero():
    token, embedding = random(60, 80), random(80, 40, seed=1)
    token, embedding = token - token.mean(1, keepdim=True), embedding - embedding.mean(0)
    of_token, of_embedding, kind = deviations(
        token + 0.1 * random(60, 80, seed=2), embedding + 0.02 * random(80, 40, seed=3)
    )
    assert kind == "noisy"
    assert float(of_token[0, 0]) == pytest.approx(0.1, rel=0.3)
    assert float(of_embedding[0, 0]) == pytest.approx(0.02, rel=0.3)
