"""The ensemble's second opinion: the first layer's equations, and how it is asked."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from privbench.attacks import auto
from privbench.attacks._auto.first_layer import FirstLayer, first_layer
from privbench.attacks._auto.verdict import Distance
from privbench.attacks.auto import Candidate, chosen
from privbench.component import make
from privbench.defense import Defense
from privbench.running.client import share
from privbench.threat import Reconstruction, ThreatModel
from privbench.victims.load import load
from tests.conftest import CPU, quiet


def trained(shared, model, *named, **more):
    """Share the first picture, by a trained victim under a defense with settings."""
    defense = make(Defense, named[0], dict(named[1:]))
    return shared(load(model, {}, (defense,), "trained", CPU), **more)


def test_it_is_the_density_of_a_gaussian(victim):
    vit = victim("vit_vanilla").model.vit
    n, p, rng = vit.grid**2, 3 * vit.patch**2, torch.Generator().manual_seed(1)
    token, of_token = (torch.rand(n, 4, generator=rng, dtype=torch.float64) for _ in range(2))
    whole, of_whole = (torch.rand(4, p, generator=rng, dtype=torch.float64) for _ in range(2))
    kept = torch.rand(4, p, generator=rng) < 0.7
    images = torch.rand(1, 3, vit.side, vit.side, generator=rng)
    found = FirstLayer(vit, token, whole, of_token, of_whole, kept).surprise(images)
    patches, total = vit.patches(images)[0].double(), 0.0
    for row in range(4):
        some = patches[:, kept[row]]
        spread = (some.T * of_token[:, row] ** 2) @ some + torch.diag(of_whole[row, kept[row]] ** 2)
        center = token[:, row] @ some
        total -= 2 * float(MultivariateNormal(center, spread).log_prob(whole[row, kept[row]]))
    constant = float(torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64)))
    assert found == pytest.approx(total / int(kept.sum()) - constant, rel=1e-9)


@pytest.mark.parametrize("defense", [("noise", ("sigma", 0.1)), ("quantize",), ("random_entries",)])
def test_the_truth_is_less_surprising_than_a_blurred_picture(defense, shared):
    for model in ("vit_vanilla", "vit_mjp"):
        seen, secret = trained(shared, model, *defense)
        layer = first_layer(seen)
        if layer is None:  # a quantized update's zero rows are as its pruned entries
            assert (model, defense[0]) == ("vit_mjp", "quantize")
            continue
        fed = seen.model.defense.feed(seen.model.vit, secret.images, secret.draw)
        blurred = torch.nn.functional.avg_pool2d(fed, 5, 1, 2)
        assert layer.surprise(fed) < layer.surprise(blurred)


@pytest.mark.parametrize("defense", ["none", "clip", "svd", "prune", "percentile", "withhold"])
def test_without_errors_of_known_size_nothing_is_said(defense, shared):
    assert first_layer(trained(shared, "vit_vanilla", defense)[0]) is None


def test_a_batch_is_not_told_apart(shared):
    assert first_layer(trained(shared, "vit_vanilla", "noise", batch=2)[0]) is None


def one(name, apart, surprise, images=None):
    answer = Reconstruction(torch.zeros(1, 3, 4, 4) if images is None else images, 0.0)
    return Candidate(name, answer, Distance(apart, 0.0), surprise=surprise)


def test_the_first_layer_decides_where_no_gradient_is_near(shared):
    layer = first_layer(trained(shared, "vit_vanilla", "noise")[0])
    assert layer is not None
    assert layer.slack == 0.5
    far = [one("deep", 0.9, -5.0), one("likely", 1.9, -7.0)]
    assert chosen(far, None).name == "deep"
    assert chosen(far, layer).name == "likely"
    # a gradient that is near counts, however well others fit the first layer
    assert chosen([*far, one("near", 0.3, -4.0)], layer).name == "near"
    # but of two near ones that which breaks the equations does not, by more than fitting gains
    assert chosen([one("a", 0.3, -7.0), one("b", 0.2, -6.6)], layer).name == "b"
    assert chosen([one("a", 0.3, -7.0), one("b", 0.2, -6.4)], layer).name == "a"


@pytest.mark.parametrize("defense", ["quantize", "sign"])
def test_auto_takes_the_better_picture_where_no_gradient_is_near(defense, shared, pictures):
    """Picture 3, of which pe_watermark's gradient is nearer than pe_ls's, and the picture worse."""
    images, labels = (part[3:4] for part in pictures(4))
    subject = load("vit_vanilla", {}, (make(Defense, defense, {}),), "trained", CPU)
    seen, _ = share(subject, images, labels, ThreatModel(), (0,))
    found = auto.Auto(tier="smoke").reconstruct(seen, torch.Generator().manual_seed(1), quiet)
    report = found.report
    assert report["distance_pe_watermark"] < report["distance_pe_ls"]
    assert report["surprise_pe_watermark"] > report["surprise_pe_ls"]
    assert found.choice == "pe_ls"
    worse = (found.members["pe_watermark"] - images).square().mean()
    assert (found.images - images).square().mean() < worse


def test_where_activations_are_dropped_the_exact_answer_wins(pictures):
    """Picture 2: without the client's masks, pe_watermark's gradient is nearer than the truth's."""
    images, labels = (part[2:3] for part in pictures(3))
    subject = load("vit_vanilla", {"dropout": 0.3}, (), "trained", CPU)
    seen, _ = share(subject, images, labels, ThreatModel(training=True), (2,))
    found = auto.Auto(tier="smoke").reconstruct(seen, torch.Generator().manual_seed(1), quiet)
    assert found.report["distance_pe_watermark"] < found.report["distance_pe_ls"]
    assert found.choice == "pe_ls"
    assert (found.images - images).square().mean() < 1e-8
