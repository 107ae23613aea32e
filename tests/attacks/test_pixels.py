"""Pixels that changed places inside patches, alike in all: the prior finds their order."""

import pytest
import torch

from privbench.attack import Attack
from privbench.attacks._order.pixels import _descend, in_order, order_of, shuffled, upright
from privbench.component import make
from privbench.dataset import Dataset
from privbench.metrics._formulas import matched_error
from privbench.patches import cut
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import Draw, ThreatModel
from tests.attacks.test_map import observed
from tests.conftest import quiet

SIDE, WHOLE = 4, 32


def turns(square):
    """All turns and reflections of something square."""
    return [t.rot90(k, (-2, -1)) for t in (square, square.flip(-1)) for k in range(4)]


@pytest.fixture(scope="module")
def images():
    return make(Dataset, "cifar10", {}).load(range(6), WHOLE, 10)[0]


def test_exchanges_end_where_none_gains():
    rng = generator("exchanges")
    one, other = (torch.randn(2, 5, 5, generator=rng).double() for _ in range(2))
    one, other = one @ one.mT, other @ other.mT
    order, cost = _descend(one, other, torch.randperm(5, generator=rng))

    def of(order):
        return float((one[:, order][:, :, order] * other).sum())

    assert cost == pytest.approx(of(order))
    for r in range(5):
        for s in range(r):
            near = order.clone()
            near[[r, s]] = order[[s, r]]
            assert of(near) > cost - 1e-9


def test_the_order_of_pixels_is_found_but_for_a_turn(images):
    rng = generator("inner")
    cells = torch.arange(SIDE**2).view(SIDE, SIDE)
    right = [one.flatten().tolist() for one in turns(cells)]
    for image in images:
        patches = (cut(image[None], SIDE)[0].double() - 0.47) / 0.25
        inner = torch.randperm(SIDE**2, generator=rng)
        fed = patches.unflatten(1, (3, -1))[..., inner]
        assert inner[order_of(fed, SIDE, WHOLE, rng)].tolist() in right


def test_shuffled_patches_and_pixels_come_back_but_for_a_turn(victim, images):
    subject = victim("vit_vanilla", "pps")
    seen, secret = share(subject, images[3:4], torch.tensor([0]), ThreatModel(), (0,))
    assert isinstance(secret.draw, Draw)
    wanted = cut(secret.images, SIDE)[0]

    def apart(name, **settings):
        images = make(Attack, name, settings).reconstruct(seen, generator("a"), quiet).images
        errors = [matched_error(cut(one, SIDE)[0], wanted) for one in turns(images)]
        return float(min(errors))

    assert apart("jigsaw", steps=1) < 1e-6
    assert apart("auto", tier="smoke") < 1e-6
    assert apart("pe_ls") > 1e-3


def test_pixels_keep_their_values(images):
    seen, _ = observed(("pps", {}))
    side = seen.model.vit.side
    picture = images[:1, :, :side, :side].clone()
    picture[..., ::2] = 1.0
    placed = in_order(seen, picture, torch.tensor([[True]]), generator("a"))
    assert torch.equal(placed.flatten(2).sort().values, picture.flatten(2).sort().values)


def test_a_picture_is_turned_as_the_network_knows_its_label():
    seen, secret = observed(("pps", {}))
    with torch.no_grad():
        known = seen.model.logits(torch.cat(turns(secret.images))).log_softmax(1)[:, 3]
    for one in turns(secret.images):
        turned = seen.model.logits(upright(seen, one)).log_softmax(1)
        assert float(turned[0, 3].detach()) == pytest.approx(float(known.max()), rel=1e-4)


@pytest.mark.parametrize(
    ("defense", "batch", "alike"),
    [
        (("pps", {}), 1, [[True]]),
        (("pps", {"per": "image"}), 2, [[True, False], [False, True]]),
        (("shuffle", {}), 1, None),
    ],
)
def test_who_moves_pixels_is_told_by_the_procedure(defense, batch, alike):
    found = shuffled(observed(defense, batch=batch)[0])
    assert (None if found is None else found.tolist()) == alike
