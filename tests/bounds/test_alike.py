"""Patches that look alike and have one position embedding: a ceiling is no lower for it."""

import pandas as pd
import pytest
import torch

from privbench.bounds.alike import interchangeable, left_open
from privbench.bounds.ceiling import jacobian, precision
from privbench.component import make
from privbench.defense import Defense
from privbench.patches import cut
from privbench.prior import covariance
from privbench.running.client import share
from privbench.threat import Draw, ThreatModel
from privbench.victims.load import load
from tests.bounds.test_bound import TINY, WORDS, expected_error
from tests.commands import caller
from tests.conftest import CPU

PAIR = [torch.tensor([[0], [1]])]


@pytest.fixture
def call(monkeypatch, capsys):
    return caller(monkeypatch, capsys)


def toy(first, second, deviation):
    """Error left of a and b by a + b and a^2 + b^2, which do not say which is which."""
    slopes = torch.tensor([[1.0, 1.0], [2 * first, 2 * second]]).double() / deviation
    told = slopes.T @ slopes
    at = torch.tensor([first, second]).double()
    prior = torch.eye(2).double()
    again = lambda along: along @ told  # noqa: E731
    return left_open(told, prior, again, at, PAIR), expected_error(told, prior, again)


def test_equal_numbers_of_a_set_are_known_though_no_slope_tells_them_apart():
    (error, unresolved, alike), (linear, _) = toy(0.7, 0.7, 1e-4)
    assert (unresolved, alike) == (0, 1)
    assert error < 1e-8
    assert linear == pytest.approx(0.5, rel=1e-3)  # their difference has the prior's variance


def test_what_slopes_tell_apart_stays_as_it_is():
    (error, _, alike), (linear, _) = toy(0.7, 0.2, 1e-4)
    assert alike == 0
    assert error == linear < 1e-7


def test_close_numbers_are_told_apart_by_less_noise():
    assert toy(0.7, 0.69, 1e-2)[0][2] == 1
    assert toy(0.7, 0.69, 1e-5)[0][2] == 0


def seen_of(model, images, *defenses, **settings):
    """What a client of a tiny victim shares of one picture, and what it keeps."""
    parts = tuple(make(Defense, name, {}) for name in defenses)
    return share(
        load(model, TINY | settings, parts, "init", CPU),
        images,
        torch.tensor([3]),
        ThreatModel(),
        (0,),
    )


def test_which_patches_only_their_pixels_tell_apart():
    """Masked ones of a puzzle, as they stood before it; all without positions; else none."""
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    sizes = {}
    for model in ("vit_vanilla", "vit_shuffle", "vit_sincos", "vit_nope", "vit_mjp"):
        ratio = {"ratio": 0.4} if model == "vit_mjp" else {}
        seen, secret = seen_of(model, images, img_size=16, **ratio)
        given = (seen.model, secret.images, secret.draw)
        sizes[model] = [len(one) for one in interchangeable(*given)]
    assert isinstance(secret.draw, Draw)
    masked = secret.draw.mask[0]
    assert 1 < masked.sum() < 16
    assert sizes == {
        "vit_vanilla": [],
        "vit_shuffle": [],
        "vit_sincos": [],
        "vit_nope": [16],
        "vit_mjp": [int(masked.sum())],
    }
    [group] = interchangeable(*given)
    fed = cut(secret.fed, 4)[0][masked]
    assert torch.equal(secret.images.flatten()[group], fed)


def test_a_picture_whose_pixels_a_defense_changes_has_none():
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    seen, secret = seen_of("vit_nope", images, "instahide")
    assert not interchangeable(seen.model, secret.images, secret.draw)


def test_an_update_of_equal_masked_patches_is_blind_to_first_order_and_its_ceiling_is_not():
    """The slope along their difference is zero, and what is left open is a fraction without it."""
    images = torch.ones(1, 3, 8, 8)
    seen, secret = seen_of("vit_nope", images, "noise")
    here = jacobian(seen, secret.images, secret.labels, secret.draw)
    known = precision(seen.model.defense, here.gradient, seen.update.tensors, len(here.at))
    groups = interchangeable(seen.model, secret.images, secret.draw)
    [group] = groups
    apart = torch.zeros(len(here.at)).double()
    apart[group[0]], apart[group[1]] = 1.0, -1.0
    whole, none = here.push(apart.abs()), here.push(apart)
    size = {n: (t.double().square() * known[n]).sum() for n, t in whole.items()}
    blind = {n: (t.double().square() * known[n]).sum() for n, t in none.items()}
    assert sum(blind.values()) < 1e-12 * sum(size.values())
    prior = covariance(seen.model.vit)
    again = lambda along: here.weighed(known, along)  # noqa: E731
    matrix = here.normal(known)
    error, _, alike = left_open(matrix, prior, again, here.at, groups)
    assert alike == 3
    assert error < 0.5 * expected_error(matrix, prior, again)[0]


def test_the_record_says_how_many_patches_are_alike(call, tmp_path):
    words = ("--model", "vit_nope", "--defense", "noise", "--images", "1", *WORDS)
    code, printed, _ = call("bound", *words, "--out", tmp_path, "--set", "defense.sigma=100")
    assert code == 0, printed
    [row] = pd.read_csv(tmp_path / "bounds.csv").to_dict("records")
    assert "3 look so much like others" in row["notes"]
