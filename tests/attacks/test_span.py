"""Span matching: its closed form, its equations, its solver; on weights that need no file."""

import pytest
import torch
from scipy.optimize import least_squares

from privbench.attack import Attack
from privbench.attacks._linear.ambiguity import ambiguity
from privbench.attacks._linear.completion import complete
from privbench.attacks._matching.restricted import Restricted
from privbench.attacks._span.levenberg import solve
from privbench.attacks._span.search import Search
from privbench.component import make
from privbench.dataset import Dataset
from privbench.patches import cut
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import ThreatModel
from tests.conftest import quiet


@pytest.fixture(scope="module")
def masked(victim):
    subject = victim("vit_mjp", ratio=0.2)
    # the second picture: the first has flat patches, which are one root
    images, labels = make(Dataset, "cifar10", {}).load(range(1, 2), 32, 10)
    seen, secret = share(subject, images, labels, ThreatModel(), (0,))
    vit = subject.model.vit
    truth = cut((secret.fed - vit.mean) / vit.std, vit.patch)[0].double()
    return seen, secret, truth


def test_the_truth_lies_in_the_ambiguity(masked):
    seen, secret, truth = masked
    open_ = ambiguity(seen)
    assert torch.equal(open_.masked, secret.draw.mask[0])
    assert len(open_.basis) == int(open_.masked.sum()) - 1
    again = open_.patches(open_.coordinates(truth))
    assert (again - truth).norm() < 2e-3 * truth.norm()
    identity = open_.basis @ open_.basis.T
    assert torch.allclose(identity, torch.eye(len(identity)).double(), atol=1e-8)


def test_without_a_mask_nothing_is_open(victim, shared):
    seen, secret = shared(victim("vit_vanilla"))
    open_ = ambiguity(seen)
    assert open_.basis.numel() == 0
    answer = make(Attack, "span", {}).reconstruct(seen, generator("a"), quiet)
    assert (answer.images - secret.fed).abs().max() < 1e-2
    assert answer.objective < 1e-3


def test_completion_is_the_smoothest_and_keeps_what_is_fixed(masked):
    seen, _, truth = masked
    open_ = ambiguity(seen)
    start = open_.coordinates(truth)
    fixed = torch.zeros_like(open_.masked)
    fixed[~open_.masked] = torch.arange(int((~open_.masked).sum())) % 2 == 0
    found = complete(open_, 4, start, fixed, open_.masked)
    kept = fixed | open_.masked
    assert torch.equal(found[kept], start[kept])
    again = complete(open_, 4, found, fixed, open_.masked)
    assert torch.allclose(again, found, atol=1e-3 * float(found.abs().max()))


def test_noise_explains_the_residual_of_true_tokens_but_not_of_others(masked):
    seen, _, truth = masked
    search = Search(seen, generator("a"), 4, 4)
    system = search.system
    tokens = torch.cat([search.first, search.stream(truth, search.every)])
    added = system.projected(system.attend(tokens))

    def chi_square(stream):
        z = system.block.norm2(stream)
        return (
            system.hull1.residual(z).square().sum(1)
            / system.hull1.variance(z)
            / system.hull1.codimension
        )

    # a first-order forecast: right within a factor, where others are off by thousands
    right = chi_square((tokens + added)[1:]).median()
    assert 0.1 < right < 10
    assert chi_square((1.5 * tokens + added.flip(0))[1:]).median() > 10 * right


def test_the_equations_know_their_own_slope(masked):
    seen, _, truth = masked
    search = Search(seen, generator("a"), 4, 4)
    search.coefficients = search.open.coordinates(truth)
    search.refresh_context()
    moves = torch.randn(5, truth.shape[1] // 3 * 8, generator=generator("m")).double()
    stream = search.stream(truth, search.every)[:3]
    noise = (1e-3, 2e-3)

    def cost(theta):
        return search.system.cost(stream + theta @ moves, noise)

    zero = torch.zeros(3, 5).double()
    half, _ = search.system.model(stream, moves, noise)
    step = 1e-6
    for direction in torch.eye(5).double():
        slope = (cost(zero + step * direction) - cost(zero - step * direction)) / (2 * step)
        assert torch.allclose(2 * half @ direction, slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sized", [False, True])
def test_curvature_is_that_of_the_residuals(masked, sized):
    seen, _, truth = masked
    search = Search(seen, generator("a"), 4, 4)
    system, noise = search.system, (1e-3, 2e-3)
    moves = torch.randn(5, len(search.embed), generator=generator("m")).double()
    stream = search.stream(truth, search.every)[:2]
    slopes, bends = system.model(stream, moves, noise, sized)
    for row, slope, bend in zip(stream, slopes, bends, strict=True):

        def residuals(theta, token=row):
            values = system._inner((token + theta @ moves)[None], sized)
            rows = zip(values, (system.hull1, system.hull2), noise, strict=True)
            return torch.cat([hull.residual(v)[0] / one**0.5 for v, hull, one in rows])

        zero = torch.zeros(5).double()
        jacobian = torch.autograd.functional.jacobian(residuals, zero)
        wanted = jacobian.T @ jacobian / system.equations
        assert (bend - wanted).norm() < 1e-10 * wanted.norm()
        wanted = jacobian.T @ residuals(zero) / system.equations
        assert (slope - wanted).norm() < 1e-10 * wanted.norm()


def test_levenberg_agrees_with_scipy():
    rng = generator("lm")
    design = torch.randn(4, 12, 3, generator=rng).double()
    target = torch.randn(4, 12, generator=rng).double()

    def residual(theta, rows):
        return torch.tanh((design[rows] @ theta[..., None])[..., 0]) - target[rows]

    def model(theta, rows):
        r = residual(theta, rows)
        jacobian = (1 - (r + target[rows]).square())[..., None] * design[rows]
        return (jacobian.transpose(1, 2) @ r[..., None])[..., 0], jacobian.transpose(
            1, 2
        ) @ jacobian

    start = torch.zeros(4, 3).double()
    ours = solve(lambda t, i: residual(t, i).square().sum(1), model, start, 200, 0.0)
    for i in range(4):
        rows = torch.tensor([i])
        theirs = least_squares(
            lambda t, rows=rows: residual(torch.tensor(t)[None], rows)[0].numpy(), start[i].numpy()
        )
        assert float(ours.cost[i]) == pytest.approx(2 * theirs.cost, rel=1e-3)


def test_a_seat_is_filled_by_the_candidate_that_fits(masked):
    seen, _, truth = masked
    open_ = ambiguity(seen)
    right = open_.coordinates(truth)
    matching = Restricted(seen, open_)
    seats = open_.masked.nonzero().flatten()[:1]
    others = right[~open_.masked][:2]
    filled = matching.fill(right, seats, torch.cat([others, right[seats]]), 6)
    assert torch.equal(filled, right)
    assert matching.calls == 6


def test_restricted_matching_brings_the_unmasked_patches_back(masked):
    seen, secret, _ = masked
    answer = make(Attack, "srgm", {"steps": 60}).reconstruct(seen, generator("a"), quiet)
    kept = ~secret.draw.mask[0]
    found, fed = cut(answer.images, 4)[0], cut(secret.fed, 4)[0]
    assert (found - fed)[kept].square().mean() < 1e-2 * fed[kept].var()


def test_noise_is_learned_from_the_tokens_that_fit_best(masked):
    seen, _, truth = masked
    known, search = (Search(seen, generator("a"), 4, 30) for _ in range(2))
    known.coefficients = known.open.coordinates(truth)
    known.refresh_context()
    search.coefficients = complete(
        search.open, 4, search.coefficients, search.found, search.open.masked
    )
    places = (~search.open.masked).nonzero().flatten()
    smooth = search.refresh_context()
    assert search.noise[0] > 10 * known.noise[0]  # a smooth picture lets far more pass
    search._learn_noise(places, smooth)
    for learned, right in zip(search.noise, known.noise, strict=True):
        assert right / 5 < learned < 5 * right
    assert search.found[places].float().mean() > 0.5
