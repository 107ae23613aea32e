"""Rows known at places of their own: the likelihood's formula, its slope, and what it is for."""

import math
from dataclasses import replace

import pytest
import torch
from torch.distributions import MultivariateNormal

from privbench.attack import Attack
from privbench.attacks._map.cut import Bounds, Cut
from privbench.attacks._map.descent import descend
from privbench.attacks._map.kept import Kept
from privbench.attacks._map.posterior import Posterior
from privbench.attacks._map.spans import Spans
from privbench.attacks._map.stages import CHOSEN, GAPS, OF_A_SET, STAGES, schedule
from privbench.component import make
from privbench.seeds import generator
from tests.attacks.test_map import observed
from tests.attacks.test_map_spans import the_slope_is_that_of_the_cost
from tests.conftest import psnr, quiet

WRONG = 0.5
"""Error of a row's entries."""


def layer(count: int = 40, told: bool = False) -> tuple[Kept, torch.Tensor, torch.Tensor]:
    """Return gradients of a layer of five tokens and six inputs, half known; inputs and slopes."""
    rng = generator("kept")

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    inputs, root = draw(5, 6), draw(5, 5)
    slopes = root @ draw(5, count)
    rows = slopes.T @ inputs + WRONG * draw(count, 6)
    known = (torch.rand(rows.shape, generator=rng) < 0.5) / WRONG**2
    sure = (torch.rand(slopes.shape, generator=rng) < 0.5) * 100.0 if told else None
    shown = slopes + 0.1 * draw(*slopes.shape) if told else None
    one = Kept("x", torch.where(known > 0, rows, 0), known.double(), bias=False)
    one.told, one.sure, one.spread = shown, sure, root @ root.T
    return one, inputs, slopes


@pytest.mark.parametrize("told", [False, True])
def test_the_cost_is_the_likelihood_of_each_row_where_it_is_known(told):
    one, inputs, _ = layer(told=told)
    assert one.spread is not None
    expected = 0.0
    for o, (row, known) in enumerate(zip(one.rows, one.known, strict=True)):
        mean, spread = torch.zeros(5).double(), one.spread
        if one.told is not None and one.sure is not None:
            there = one.sure[:, o] > 0
            cross = spread[:, there]
            gain = cross @ (spread[there][:, there] + 0.01 * torch.eye(int(there.sum()))).inverse()
            mean, spread = gain @ one.told[there, o], spread - gain @ cross.T
        at = known > 0
        whole = inputs[:, at].T @ spread @ inputs[:, at] + WRONG**2 * torch.eye(int(at.sum()))
        expected -= float(MultivariateNormal(inputs[:, at].T @ mean, whole).log_prob(row[at]))
    constant = one.entries * math.log(2 * math.pi * WRONG**2) / 2
    assert float(one.cost(inputs)) + constant == pytest.approx(expected, rel=1e-8)


def test_slopes_are_factored_once_a_fit(monkeypatch):
    one, inputs, _ = layer(told=True)
    plain, calls = Kept._factored, []
    monkeypatch.setattr(Kept, "_factored", lambda own: calls.append(0) or plain(own))
    before = [float(one.cost(by * inputs)) for by in (1, 2)]
    assert len(calls) == 1
    one.fit(inputs)
    after = float(one.cost(inputs))
    calls.clear()
    assert float(replace(one).cost(inputs)) == after != before[0]
    assert len(calls) == 1


def test_the_covariance_of_slopes_is_that_which_made_the_rows():
    one, inputs, slopes = layer(4000)
    made, one.spread = one.spread, None
    for _ in range(30):
        one.fit(inputs)
    assert made is not None
    assert one.spread is not None
    found = slopes @ slopes.T / 4000
    assert torch.allclose(one.spread, found, atol=0.1 * float(found.diagonal().max()))


@pytest.mark.parametrize("model", ["vit_vanilla", "vit_mjp"])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("blocks", [0, 1])
def test_the_slope_is_that_of_the_cost(model, batch, blocks):
    seen, secret = observed(("random_entries", {}), model=model, batch=batch)
    spans = Spans(Posterior(seen, secret.draw), 0.1)
    spans.use(blocks)
    the_slope_is_that_of_the_cost(spans, seen.shape)


def test_a_blank_picture_comes_nearer_than_the_closed_form():
    """Entries that were kept are exact, and tell what two tensors with holes do not."""
    seen, secret = observed(("random_entries", {}), embed_dim=64)
    closed = make(Attack, "pe_ls", {}).reconstruct(seen, generator("a"), quiet).images
    posterior = Posterior(seen, None)
    at = seen.model.vit.mean.expand(seen.shape).flatten()
    for least, blocks in ((0.1, 0), (0.1, 1)):
        spans = Spans(posterior, least)
        spans.use(blocks)
        spans.fit(at.view(seen.shape))
        at, _, _ = descend(spans, at, posterior.half, 30, quiet)
    assert psnr(at.view(seen.shape), secret.images) > psnr(closed, secret.images) + 2


@pytest.mark.parametrize("high", [8.0, float("inf")])
def test_what_entries_left_out_for_their_size_say_corrects_the_choice(high):
    """Those that are kept are larger, or of middle size: alone they mistake the slopes' sizes."""
    one, inputs, slopes = layer(2000)
    made, whole = one.spread, slopes.T @ inputs
    kept = (whole.abs() > 3) & (whole.abs() < high)
    rows, known = torch.where(kept, whole, 0), kept.double() * 4
    off = []
    for cut in (None, Cut(~kept, Bounds(3.0, high))):
        first = known if cut is None else cut.first(known)
        some = Kept("x", rows, first, bias=False, cut=cut)
        for _ in range(6):
            some.fit(inputs)
        assert some.spread is not None
        assert made is not None
        off.append(float((inputs.T @ (some.spread - made) @ inputs).norm()))
    assert off[1] < 0.7 * off[0]


def test_gaps_have_stages_of_their_own():
    assert schedule(Posterior(observed(("random_entries", {}))[0], None), masked=False) is GAPS
    assert schedule(Posterior(observed(("dgp", {}))[0], None), masked=False) is CHOSEN
    assert schedule(Posterior(observed(("prune", {}))[0], None), masked=False) is CHOSEN
    noisy = Posterior(observed(("noise", {}))[0], None)
    assert schedule(noisy, masked=False) is STAGES
    assert schedule(noisy, masked=True) is OF_A_SET
