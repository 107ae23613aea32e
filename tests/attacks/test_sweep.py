"""Without a position gradient: tokens tied to no place, and the places that they tell."""

import pytest
import torch

from privbench.attack import Attack
from privbench.attacks._linear.ambiguity import ambiguity
from privbench.attacks._matching.restricted import Restricted
from privbench.attacks._span.roots import Roots
from privbench.attacks._span.search import Search
from privbench.attacks._span.sweep import Sweep
from privbench.attacks._update.reading import mask, placeless, unknown
from privbench.component import make
from privbench.defense import Defense
from privbench.patches import cut
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import Draw, ThreatModel
from privbench.victims.load import load
from tests.conftest import psnr, quiet

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


def swept(model, defense, pictures):
    """A sweep over one picture's update to a trained victim, and the truth's own tokens."""
    subject = load(model, {}, (make(Defense, defense, {}),), "trained", torch.device("cpu"))
    # the second picture: the first has flat patches, which are one root
    images, labels = pictures(2)
    seen, secret = share(subject, images[1:], labels[1:], ThreatModel(), (0,))
    sweep = Sweep(Search(seen, generator("a"), 16, 30))
    vit = seen.model.vit
    assert secret.draw is None or isinstance(secret.draw, Draw)
    known = Search(seen, generator("b"), 16, 30, secret.draw)
    known.coefficients = known.open.coordinates(
        cut((secret.fed - vit.mean) / vit.std, vit.patch)[0].double()
    )
    known.refresh_context()
    tokens = torch.cat(
        [known.first, known.stream(known.open.patches(known.coefficients), known.every)]
    )
    tokens = (tokens + known.system.projected(known.system.attend(tokens)))[len(known.first) :]
    # what a true token lets pass is noise, as the sweep finds out from its best roots
    sweep.search.refresh_context()
    first, second = known.system.variances(tokens)
    sweep.search.noise = (float(first.median()), float(second.median()))
    cost = sweep.search.system.cost(tokens, sweep.search.noise)
    return sweep, Roots(known.coefficients, tokens, cost), secret


@pytest.mark.parametrize(
    ("model", "defense"), [("vit_sincos", "none"), ("vit_vanilla", "withhold")]
)
def test_a_token_tells_its_place(model, defense, pictures):
    sweep, roots, _ = swept(model, defense, pictures)
    search = sweep.search
    assert (roots.cost < search.root).float().mean() > 0.9
    shuffled = torch.randperm(len(roots), generator=generator("p"))
    sweep._place(roots[shuffled], search.refresh_context())
    assert search.found.float().mean() > 0.9
    off = (search.coefficients - roots.coefficients)[search.found].norm(dim=1)
    assert (off < 1e-2 * roots.coefficients.norm(dim=1).mean()).all()


def test_the_mask_is_where_no_token_has_the_places_own_embedding(pictures):
    sweep, roots, secret = swept("vit_mjp", "withhold", pictures)
    shuffled = torch.randperm(len(roots), generator=generator("p"))
    sweep._place(roots[shuffled], sweep.search.refresh_context())
    known = sweep.unmask()
    assert known.draw is not None
    assert isinstance(secret.draw, Draw)
    assert torch.equal(known.draw.mask, secret.draw.mask)
    assert known.found.all()


def test_starts_that_end_in_the_same_token_are_one_root(pictures):
    sweep, roots, _ = swept("vit_sincos", "none", pictures)
    twice = roots + Roots(roots.coefficients, 2 * roots.tokens + 1, roots.cost + 1)
    # the norm sees no scale and no shift, so the second ones are the first ones, and worse
    assert sorted(sweep._distinct(twice).tolist()) == list(range(len(roots)))


@pytest.mark.slow
def test_a_fixed_position_table_hides_nothing_from_the_sweep(pictures):
    subject = load("vit_sincos", {}, (), "trained", torch.device("cpu"))
    images, labels = pictures(1)
    seen, secret = share(subject, images, labels, ThreatModel(), (0,))
    found = make(Attack, "span", {}).reconstruct(seen, generator("a"), quiet)
    assert psnr(found.images, secret.images) > 40
    assert found.report["found"] == 1
