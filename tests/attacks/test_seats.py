"""The order of a set of patches: what it costs, and that the right one is found."""

import pytest
import torch

from privbench.attacks._map.posterior import Posterior
from privbench.attacks._map.seats import OFF, Seats
from privbench.attacks._update.reading import mask
from privbench.patches import cut
from privbench.seeds import generator
from privbench.threat import Draw
from tests.attacks.test_map import observed


@pytest.fixture(scope="module")
def set_of_patches():
    """A picture of the prior in 16 patches of 2 px, of which a block is masked."""
    seen, secret = observed(("noise", {"sigma": 0.01}), model="vit_mjp", patch_size=2, ratio=0.4)
    assert isinstance(secret.draw, Draw)
    posterior = Posterior(seen, mask(seen))
    slopes = torch.zeros(posterior.blank.numel())
    return posterior, secret.draw.mask[0], torch.cat([secret.images.flatten(), slopes])


def cost(posterior, masked, at):
    """The order's cost by the whole prior, with errors on masked pixels alone: half a square."""
    error = torch.zeros(posterior.pixels).double()
    error[posterior.places()[0, masked]] = OFF**2
    whole = posterior.half @ posterior.half.T + torch.diag(error)
    off = at[: posterior.pixels].double() - posterior.mean
    return float(off @ torch.linalg.solve(whole, off)) / 2


def shuffled(posterior, masked, at):
    places = posterior.places()[0, masked]
    order = torch.randperm(len(places), generator=generator("order"))
    found = at.clone()
    found[places] = at[places[order]]
    return found


def test_an_order_costs_what_it_does_in_the_whole_prior(set_of_patches):
    posterior, masked, at = set_of_patches
    seats = Seats(posterior, masked)
    other = shuffled(*set_of_patches)

    def own(one):
        away = (one[: posterior.pixels].double() - posterior.mean)[seats.shown]
        expected = seats.mean[seats.places] - (seats.pull @ away).view(seats.places.shape)
        off = one[seats.places].double() - expected
        return float(torch.einsum("ap,abpq,bq->", off, seats.blocks, off)) / 2

    assert own(other) - own(at) == pytest.approx(
        cost(posterior, masked, other) - cost(posterior, masked, at), rel=1e-6
    )


def test_exchanges_end_where_none_gains_and_keep_the_set(set_of_patches):
    posterior, masked, at = set_of_patches
    assert masked.sum() > 3
    other = shuffled(*set_of_patches)
    found = Seats(posterior, masked).ordered(other, generator("seats"))
    assert cost(posterior, masked, found) <= cost(posterior, masked, at) + 1e-6
    assert cost(posterior, masked, other) > cost(posterior, masked, at) + 1
    patches = [cut(one[: posterior.pixels].view(posterior.shape), 2)[0] for one in (found, at)]
    assert torch.equal(patches[0][~masked], patches[1][~masked])
    assert sorted(patches[0][masked].tolist()) == sorted(patches[1][masked].tolist())
    assert torch.equal(found[posterior.pixels :], at[posterior.pixels :])


def test_without_seats_shown_patches_say_nothing_of_masked_ones(set_of_patches):
    posterior, masked, _ = set_of_patches
    loose = posterior.without_seats(masked)
    whole, before = loose.half @ loose.half.T, posterior.half @ posterior.half.T
    places = posterior.places()[0]
    shown = places[~masked].flatten()
    torch.testing.assert_close(whole[shown][:, shown], before[shown][:, shown])
    for place in places[masked]:
        torch.testing.assert_close(whole[place][:, place], before[place][:, place])
        others = torch.ones(posterior.pixels, dtype=torch.bool)
        others[place] = False
        assert whole[place][:, others].abs().max() < 1e-12
