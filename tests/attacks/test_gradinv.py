"""The positive control: gradient matching returns pictures where nothing is defended."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from privbench.attack import Attack
from privbench.attacks._matching.distances import cosine, relative, squared
from privbench.attacks._matching.priors import total_variation
from privbench.attacks._matching.rows import in_row_units, squares, token_facts
from privbench.component import make
from privbench.seeds import generator
from tests.conftest import psnr, quiet


def test_it_beats_the_floor_by_far_on_the_undefended_victim(victim, shared):
    seen, secret = shared(victim("vit_vanilla", depth=6))
    floor = psnr(seen.model.vit.mean.expand(seen.shape), secret.images)
    answer = make(Attack, "gradinv", {"steps": 110}).reconstruct(seen, generator("a"), quiet)
    assert psnr(answer.images, secret.images) > floor + 5


@pytest.mark.slow
def test_on_a_masked_victim_what_is_not_masked_comes_back(victim, shared):
    from privbench.patches import cut

    seen, secret = shared(victim("vit_mjp", depth=6))
    answer = make(Attack, "gradinv", {"steps": 110}).reconstruct(seen, generator("a"), quiet)
    free = ~secret.draw.mask[0]
    floor = psnr(seen.model.vit.mean.expand(seen.shape), secret.fed)
    assert psnr(cut(answer.images, 4)[0, free], cut(secret.fed, 4)[0, free]) > floor + 5


@pytest.mark.parametrize("distance", [squared, cosine, relative])
def test_a_distance_is_zero_at_the_shared_gradient_and_not_beside_it(distance):
    shared = {"a": torch.randn(4, 3), "b": torch.randn(5)}
    beside = {name: tensor + 0.1 * torch.randn_like(tensor) for name, tensor in shared.items()}
    assert float(distance(shared, shared)) == pytest.approx(0, abs=1e-6)
    assert float(distance(beside, shared)) > 1e-4


@given(factor=st.floats(1e-3, 1e3))
def test_cosine_ignores_a_common_factor(factor):
    shared = {"a": torch.arange(1.0, 7).view(2, 3), "b": torch.ones(4)}
    scaled = {name: factor * tensor for name, tensor in shared.items()}
    assert float(cosine(scaled, shared)) == pytest.approx(0, abs=1e-5)


def plain_cosine(found, shared):
    one, two = (torch.cat([t.flatten() for t in half.values()]) for half in (found, shared))
    return 1 - torch.cosine_similarity(one, two, dim=0)


def test_the_slope_of_the_cosine_is_autograds_side_by_side_too():
    rng = torch.Generator().manual_seed(0)
    found, shared = (
        {
            name: torch.randn(3, size, 2, generator=rng).double()
            for name, size in (("a", 4), ("b", 5))
        }
        for _ in range(2)
    )
    wanted = torch.func.vmap(torch.func.grad_and_value(plain_cosine))(found, shared)
    together = torch.func.vmap(torch.func.grad_and_value(cosine))(found, shared)
    assert torch.allclose(together[1], wanted[1])
    for name in found:
        assert torch.allclose(together[0][name], wanted[0][name])
        leaves = {key: tensor[1].clone().requires_grad_() for key, tensor in found.items()}
        value = 3 * cosine(leaves, {key: tensor[1] for key, tensor in shared.items()})
        (alone,) = torch.autograd.grad(value, leaves[name])
        assert torch.allclose(alone, 3 * wanted[0][name][1])


def apart(found, rows, kept=None):
    """Mean over rows of the squared gaps, as they stand."""
    facts = token_facts(rows, kept)
    along, across = in_row_units(found, facts)
    return float(squares(along - facts["along"], across - facts["across"], facts))


def test_token_rows_see_what_a_norm_does_not():
    """A change beside the main direction counts in units of that row's own remainder."""
    rng = torch.Generator().manual_seed(0)
    common = torch.randn(16, generator=rng)
    rows = common + 0.01 * torch.randn(8, 16, generator=rng)
    other = common + 0.01 * torch.randn(8, 16, generator=rng)
    gap = (rows - other).square().sum() / rows.square().sum()
    assert float(gap) < 1e-3
    assert apart(other, rows) > 1
    assert apart(rows, rows) == 0


def test_rows_without_gradient_say_nothing():
    rows = torch.randn(6, 8)
    rows[[1, 4]] = 0
    changed = rows.clone()
    changed[[1, 4]] = 5
    assert apart(changed, rows) == 0


def test_total_variation_of_a_ramp_is_its_slope():
    ramp = torch.arange(8.0).view(1, 1, 1, 8).expand(1, 3, 8, 8)
    assert float(total_variation(ramp)) == pytest.approx(1)
