"""What is known nearly exactly does not hide what is known of the rest, or there is no ceiling."""

import math

import pandas as pd
import pytest
import torch

import privbench.bounds.run
from privbench.bounds.ceiling import jacobian, precision
from privbench.component import make
from privbench.defense import Defense
from privbench.prior import covariance
from privbench.reports.joined import figures, joined
from privbench.running.client import share
from privbench.threat import ThreatModel
from privbench.victims.load import load
from tests.bounds.test_bound import TINY, WORDS, expected_error
from tests.commands import caller
from tests.conftest import CPU


@pytest.fixture
def call(monkeypatch, capsys):
    return caller(monkeypatch, capsys)


def alone(rows):
    """Mean squared error from J, S^-1 J with S = 1, by products that float64 rounds."""
    given = torch.eye(rows.shape[1]).to(rows)
    return expected_error(rows.T @ rows, given, lambda along: along @ rows.T @ rows)


def test_no_information_leaves_the_prior_and_all_of_it_leaves_nothing():
    prior = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    for size, left in ((0.0, 2.0), (1e12, 1e-12)):
        whole = size * torch.eye(2).double()
        found = expected_error(whole, prior, lambda along, whole=whole: along @ whole)
        assert found == (pytest.approx(left), 0)


@pytest.mark.parametrize("top", [1.0, 1e5, 1e8, 1e10])
def test_what_is_known_well_does_not_blur_what_is_known_of_the_rest(top):
    """Against the singular values of J, of which float64 resolves twice as many decades."""
    rng = torch.Generator().manual_seed(0)
    turned = [torch.linalg.qr(torch.randn(k, 40, generator=rng).double())[0] for k in (60, 40)]
    sizes = torch.cat([top * torch.logspace(0, -3, 10), torch.logspace(1, -2, 20), torch.zeros(10)])
    rows = turned[0] * sizes.double() @ turned[1].T
    found, unresolved = alone(rows)
    assert unresolved == 0
    assert found == pytest.approx(float((1 / (1 + sizes.double().square())).mean()), rel=2e-3)


def test_what_not_even_that_resolves_is_no_ceiling():
    rng = torch.Generator().manual_seed(0)
    turned = torch.linalg.qr(torch.randn(4, 4, generator=rng).double())[0]
    error, unresolved = alone(turned * torch.tensor([1e18, 1.0, 1.0, 0.0]).double() @ turned.T)
    assert unresolved == 3
    assert error < 1e-9


def test_few_entries_of_float32_leave_most_of_a_picture_open():
    """A head's gradient has fewer numbers than a picture, all of them nearly exact."""
    victim = load("vit_vanilla", TINY, (make(Defense, "head_only", {}),), "init", CPU)
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    seen, secret = share(victim, images, torch.tensor([3]), ThreatModel(), (0,))
    here, prior = (
        jacobian(seen, secret.images, secret.labels, secret.draw),
        covariance(seen.model.vit),
    )
    known = precision(seen.model.defense, here.gradient, seen.update.tensors, len(here.at))
    error, unresolved = expected_error(
        here.normal(known), prior, lambda along: here.weighed(known, along)
    )
    columns = [here.push(unit) for unit in torch.eye(len(here.at)).double()]
    rows = [[(t * known[n].sqrt()).flatten() for n, t in one.items()] for one in columns]
    plain = torch.stack([torch.cat(row) for row in rows], dim=1)  # S^-1/2 J
    half = torch.linalg.cholesky(prior)
    _, sizes, turned = torch.linalg.svd(plain @ half)
    whole = torch.cat([sizes, sizes.new_zeros(len(prior) - len(sizes))]).square()
    expected = ((half @ turned.T).square().sum(0) / (1 + whole)).sum() / len(prior)
    assert len(plain) < len(prior)
    assert unresolved == 0
    assert error == pytest.approx(float(expected), rel=1e-3)
    assert 0.3 < error / float(prior.diagonal().mean()) < 1


def test_a_ceiling_that_is_not_resolved_is_no_number(call, tmp_path, monkeypatch):
    monkeypatch.setattr(privbench.bounds.run, "left_open", lambda *given: (1e-12, 7, 0))
    words = ("--model", "vit_vanilla", "--defense", "noise", "--images", "1", *WORDS)
    code, printed, _ = call("bound", *words, "--out", tmp_path)
    assert code == 0
    assert "not resolved" in printed
    assert "does not resolve 7 of 192 directions: there is no ceiling" in " ".join(printed.split())
    for place in ("bounds.csv", "joined/ceiling.csv"):
        [row] = pd.read_csv(tmp_path / place).to_dict("records")
        assert math.isnan(row["ceiling"]), place
    own = {key: row[key] for key in ("model", "weights", "weights_sha256", "dataset", "seed")}
    own["threat"] = "knows nothing, batch 1"
    assert not figures(joined(tmp_path), own | {"defense": row["defense"], "attack": "mean"})
