"""Updates cut to a low rank: what stays exact is read in full, and what is missing by its size."""

import pytest
import torch

from privbench.attack import Attack
from privbench.attacks._map.low_rank import Weighing, as_matrix, low_rank, rows, told_rows
from privbench.attacks._map.posterior import Posterior
from privbench.attacks._map.spans import Layer, Spans
from privbench.attacks._map.stages import LOW, schedule
from privbench.component import make
from privbench.defense import Defense, LowRank
from privbench.seeds import generator
from privbench.vit import ViT
from tests.attacks.test_map import observed
from tests.attacks.test_map_spans import the_slope_is_that_of_the_cost
from tests.conftest import psnr, quiet

WEIGHT = "backbone.blocks.0.mlp.fc1.weight"


def matrices() -> tuple[torch.Tensor, LowRank]:
    """Return a matrix and what two of its singular values leave of it."""
    whole = torch.randn(7, 5, generator=generator("low"), dtype=torch.float64)
    u, s, vh = torch.linalg.svd(whole, full_matrices=False)
    rest = float(s[2:].norm() / s[:2].norm())
    return whole, LowRank(u[:, :2], vh[:2].T, rest)


def test_the_likelihood_is_that_of_the_true_rows_along_the_kept_directions():
    """By hand: diag(0.5, 0.2) of diag(2, 1, 0.1) in a basis that only the first two rows have."""
    whole = torch.zeros(4, 3, dtype=torch.float64)
    whole[0, 0], whole[1, 1], whole[2, 2] = 2.0, 1.0, 0.1
    kept = whole.clone()
    kept[2, 2] = 0
    low = LowRank(torch.eye(4, 2).double(), torch.eye(3, 2).double(), 0.1 / 5**0.5)
    bias = torch.tensor([3.0, 0.0, 7.0, 1.0], dtype=torch.float64)
    found = rows(low, kept, bias)
    size = (torch.tensor([4.0, 1.0], dtype=torch.float64) / 3).sqrt()[:, None]
    true = torch.cat([whole, bias[:, None]], dim=1)[:2] / size
    assert torch.allclose(found, true)
    inputs = torch.randn(3, 3, generator=generator("in"), dtype=torch.float64)
    costs = []
    for one in (found, true):
        layer = Layer("x", one, 1.0, 1.0, torch.tensor([1.0, 2.0, 0.5]).double())
        costs.append(float(layer.cost(layer.inputs({"x": inputs[None]}))))
    assert costs[0] == pytest.approx(costs[1])


def test_only_what_lies_off_both_sides_counts_less():
    whole, low = matrices()
    kept = low.left @ low.left.T @ whole
    weigh = Weighing(low, kept, torch.full_like(kept, 1e4))
    assert torch.allclose(weigh(kept), kept)
    along = torch.randn(7, 2, generator=generator("a"), dtype=torch.float64) @ low.right.T
    assert torch.allclose(weigh(along), along)
    # the true rest comes out as large as its directions have entries, in units of an error
    rest = (whole - kept).square().sum() * 1e4
    assert float(weigh(whole - kept).square().sum() * 1e4) == pytest.approx(15, rel=0.01)
    assert float(rest) > 1000


def test_the_truth_is_exact_along_what_the_defense_says_it_kept():
    seen, secret = observed(("svd", {}))
    true = seen.model.gradient(secret.images, secret.labels, differentiable=False)
    said = low_rank(seen)
    assert {ViT.POSITIONS, ViT.PROJECTION, WEIGHT} <= said.keys()
    for name, low in said.items():
        whole, kept = as_matrix(true[name], low), as_matrix(seen.update.tensors[name], low)
        small = 1e-5 * float(kept.norm())
        assert float((low.left.T @ (whole - kept)).norm()) < small
        assert float(((whole - kept) @ low.right).norm()) < small
        # at most the share that the defense lets go
        assert float((whole - kept).norm() / kept.norm()) <= (1 / 0.9 - 1) ** 0.5
        assert 0 < low.rest <= (1 / 0.9 - 1) ** 0.5


def test_slopes_of_the_patch_projection_are_off_by_what_the_table_lacks():
    seen, secret = observed(("svd", {}))
    posterior, vit = Posterior(seen, None), seen.model.vit
    bias = posterior.data["backbone.patch_embed.proj.bias"]
    low, of_table = posterior.low[ViT.PROJECTION], posterior.low[ViT.POSITIONS]
    table, weight = posterior.data[ViT.POSITIONS][0], posterior.data[ViT.PROJECTION]
    _, told, wrong = told_rows(low, weight, bias, of_table, table, vit.prefix)
    true = seen.model.gradient(secret.images, secret.labels, differentiable=False)
    factor = float(table.norm() / seen.update.tensors[ViT.POSITIONS].norm())
    whole = factor * true[ViT.POSITIONS][0]
    _, _, none = told_rows(low, weight, bias, None, whole, vit.prefix)
    assert not none.any()
    _, turned, _ = told_rows(low, weight, bias, of_table, whole, vit.prefix)
    off = (turned - told).square().mean(0).sqrt()
    sizes = wrong.square().mean(0).sqrt()
    # the share of energy that is missing has an upper bound alone
    assert (off < 3 * sizes + 1e-6).all()


@pytest.mark.parametrize("blocks", [0, 1, None])
def test_the_slope_is_that_of_the_cost(blocks):
    seen, _ = observed(("svd", {}))
    spans = Spans(Posterior(seen, None), 0.1)
    spans.use(blocks)
    the_slope_is_that_of_the_cost(spans, seen.shape)


@pytest.mark.parametrize(
    ("defenses", "read"),
    [
        ([("svd", {})], True),
        ([("clip", {"norm": 0.1}), ("svd", {})], True),
        ([("svd", {}), ("noise", {"sigma": 0.01})], False),
        ([("prune", {}), ("svd", {})], False),
        ([("svd", {"energy": 1.0})], False),
        ([("noise", {"sigma": 0.01})], False),
    ],
)
def test_ranks_are_read_where_nothing_else_left_errors(defenses, read):
    posterior = Posterior(observed(*defenses)[0], None)
    assert bool(posterior.low) == read
    assert (schedule(posterior, masked=False) is LOW) == read


def test_it_comes_nearer_than_the_closed_form():
    """Of eight pixels a side, before training, where 0.1 % of the energy is missing."""
    seen, secret = observed(("svd", {"energy": 0.999}), embed_dim=64)
    closed = make(Attack, "pe_ls", {}).reconstruct(seen, generator("a"), quiet).images
    attack = make(Attack, "map", {"spans": 30, "steps": 1, "newton": 0})
    found = attack.reconstruct(seen, generator("a"), quiet).images
    assert psnr(found, secret.images) > psnr(closed, secret.images) + 3


def test_nothing_is_said_of_zeros_and_vectors():
    defense = make(Defense, "svd", {})
    assert defense.low_rank({"a": torch.zeros(3, 4), "b": torch.ones(5)}) == {}
