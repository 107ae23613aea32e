"""Mixtures of a batch are taken apart: shares by the head's gradient, pictures by their inverse."""

from typing import Any

import pytest
import torch

from privbench.attack import Attack
from privbench.attacks._auto.probe import probe
from privbench.attacks._auto.tiers import members
from privbench.attacks._auto.verdict import Verdict
from privbench.attacks._peel.judge import soft_of_each
from privbench.attacks._update.mixing import as_draw
from privbench.attacks.unmix import classes, refined, unmixed
from privbench.component import make
from privbench.defense import Defense
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import ThreatModel
from privbench.victims.load import load
from tests.conftest import CPU, psnr, quiet

SMALL = {"depth": 1, "embed_dim": 32, "num_heads": 2, "patch_size": 8}


def mixed(
    pictures, rows, name="mixup", small=SMALL, weights: str | None = "init", **settings
) -> Any:
    images, labels = (t[rows] for t in pictures(max(rows) + 1))
    victim = load("vit_patch8", small, (make(Defense, name, settings),), weights, CPU)
    return share(victim, images, labels, ThreatModel(batch_size=len(rows)), (2,))


@pytest.mark.parametrize(
    ("name", "settings"),
    [("mixup", {"per": "image"}), ("instahide", {"flip": False, "k": 3})],
)
def test_shares_are_read_off_the_head_and_the_inverse_gives_the_pictures(name, settings, pictures):
    seen, secret = mixed(pictures, [0, 1, 3, 4], name, **settings)
    assert not torch.allclose(secret.fed, secret.images, atol=0.05)
    shares = soft_of_each(seen, secret.fed, None)
    assert shares is not None
    parts, weights = secret.draw.tensors()[:2]
    expected = torch.zeros(4, 10).double()
    for row in range(4):
        for part, weight in zip(parts[row].tolist(), weights[row].tolist(), strict=True):
            expected[row, secret.labels[part]] += weight
    assert torch.allclose(shares, expected, atol=1e-3)
    found, outside, condition = unmixed(secret.fed, shares)
    assert found is not None
    assert outside < 1e-2
    assert condition > 1
    order = secret.labels.argsort()  # pictures come in the order of their classes
    assert psnr(found, secret.images[order]) > 60


def test_with_the_mixing_the_pictures_have_the_shared_gradient(pictures):
    seen, secret = mixed(pictures, [0, 1, 3], per="image")
    shares = soft_of_each(seen, secret.fed, None)
    assert shares is not None
    known, order = classes(shares), secret.labels.argsort()
    found = refined(secret.fed, secret.images[order], shares[:, known])
    draw = as_draw(seen, found)
    verdict = Verdict(seen, generator("verdict"))
    assert verdict.distance(secret.images[order], known, draw).apart < 1e-10
    assert verdict.distance(secret.images[order], known).apart > 1e-3
    assert verdict.distance(secret.fed, known).apart > 1e-3  # inputs, whose labels are mixed


def test_signs_are_not_known_and_other_defenses_mix_nothing(pictures):
    half = torch.full((2, 2), 0.5).double()
    for name in ("instahide", "none"):
        assert as_draw(mixed(pictures, [0, 1], name)[0], half) is None


def test_the_ensemble_sends_it_where_pictures_are_mixed(pictures):
    wide = SMALL | {"embed_dim": 64}

    def sent(name):
        stages = members("fast", probe(mixed(pictures, [0, 1], name, wide)[0]))
        return {one.name for stage in stages for one in stage} & {"peel", "unmix"}

    assert sent("mixup") == sent("instahide") == {"unmix"}
    assert sent("none") == {"peel"}


def test_what_cannot_be_taken_apart_is_left():
    inputs = torch.rand(2, 3, 8, 8, generator=generator("inputs"))
    one_class = torch.tensor([[1.0, 0, 0], [1.0, 0, 0]]).double()
    equal = torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0]]).double()
    elsewhere = torch.tensor([[0.6, 0.3, 0.1], [0.4, 0.5, 0.1]]).double()
    for shares in (one_class, equal, elsewhere, torch.ones(2, 1).double()):
        assert unmixed(inputs, shares)[0] is None
    found, *_ = unmixed(inputs, torch.tensor([[0.7, 0.3, 0], [0.3, 0.7, 0]]).double())
    assert found is not None
    assert torch.allclose(0.7 * found[0] + 0.3 * found[1], inputs[0], atol=1e-5)


def test_solutions_that_are_no_pictures_are_not_on_the_grid():
    """Far outside of black and white, where clamping would put them on it."""
    inputs = torch.stack([torch.ones(3, 4, 4), torch.zeros(3, 4, 4)])
    found, *_ = unmixed(inputs, torch.tensor([[0.55, 0.45, 0], [0.45, 0.55, 0]]).double())
    assert found is not None
    assert found.max() > 5


@pytest.mark.slow
def test_a_mixed_batch_of_the_trained_victim_is_returned_exactly(pictures):
    seen, secret = mixed(pictures, [0, 1], small={}, weights=None)
    assert secret.draw.parts.tolist() == [[0, 1], [1, 0]]
    found = make(Attack, "unmix", {}).reconstruct(seen, generator("attack"), quiet)
    assert psnr(found.images, secret.images) > 80
    assert found.labels is not None
    assert found.labels.tolist() == secret.labels.tolist()
    seen, secret = mixed(pictures, [0, 1], "instahide", small={}, weights=None)
    hidden = make(Attack, "unmix", {}).reconstruct(seen, generator("attack"), quiet)
    assert psnr(hidden.images, secret.images) > 25
    seen, secret = mixed(pictures, [0, 1], small={}, weights=None)
    whole = make(Attack, "auto", {}).reconstruct(seen, generator("attack"), quiet)
    assert (whole.choice, whole.report["certified"]) == ("unmix", 1)
    assert psnr(whole.images, secret.images) > 80
