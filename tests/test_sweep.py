"""Without a position gradient: tokens tied to no place, and the places that they tell."""

import pytest
import torch

from privbench.attack import Attack
from privbench.attacks._ambiguity import ambiguity
from privbench.attacks._reading import mask, placeless, unknown
from privbench.attacks._restricted import Restricted
from privbench.client import generator
from privbench.component import make
from tests.conftest import quiet

BLIND = [("vit_nope", "none"), ("vit_sincos", "none"), ("vit_vanilla", "withhold")]


@pytest.mark.parametrize(("model", "defense"), BLIND)
def test_matching_leaves_the_flat_picture_that_it_starts_from(model, defense, victim, shared):
    seen, _ = shared(victim(model, defense))
    matching = Restricted(seen, open_ := ambiguity(seen))
    flat = matching.at(torch.zeros(len(open_.origin), len(open_.basis)).double())
    found = make(Attack, "srgm", {"steps": 40}).reconstruct(seen, generator("a"), quiet)
    assert found.objective < 0.1 * flat


def test_patches_are_placeless_where_positions_are_alike(victim, shared):
    seen, _ = shared(victim("vit_nope"))
    assert placeless(seen, None).all()
    seen, _ = shared(victim("vit_sincos"))
    assert not placeless(seen, None).any()
    seen, secret = shared(victim("vit_mjp", ratio=0.3))
    assert torch.equal(placeless(seen, mask(seen)), secret.draw.mask[0])


def test_the_unknown_embedding_matters_only_where_the_mask_is_hidden(victim, shared):
    seen, _ = shared(victim("vit_mjp", ratio=0.3))
    assert unknown(seen) is None
    seen, _ = shared(victim("vit_vanilla", "withhold"))
    assert unknown(seen) is None
    seen, secret = shared(victim("vit_mjp", "withhold", ratio=0.3))
    vit, defense = seen.model.vit, seen.model.defense
    rows = defense.positions(vit, secret.draw)[0, vit.prefix :]
    assert (rows[secret.draw.mask[0]] == unknown(seen)).all()
