"""A ceiling is what algebra says: against plain matrices, against a toy, and from the terminal."""

import math

import pandas as pd
import pytest
import torch

from privbench.bounds.alike import left_open
from privbench.bounds.ceiling import jacobian, precision
from privbench.bounds.plan import BOUND
from privbench.component import Part, make
from privbench.defense import Defense
from privbench.defenses._laplace import laplace
from privbench.jacobian import Jacobian
from privbench.prior import covariance
from privbench.records.bound import CAP, BoundCase, BoundStore, decibels
from privbench.reports.joined import figures, joined
from privbench.running.client import share
from privbench.stack import Stack
from privbench.threat import ThreatModel, Update
from privbench.victims.load import load
from tests.commands import caller
from tests.conftest import CPU

TINY = {"img_size": 8, "depth": 1, "embed_dim": 8, "num_heads": 2}
WORDS = ["--dataset", "photos"] + [
    word for key, value in TINY.items() for word in ("--set", f"model.{key}={value}")
]


@pytest.fixture
def call(monkeypatch, capsys):
    return caller(monkeypatch, capsys)


def expected_error(information, prior, again):
    """What is left open of a picture whose patches all have places of their own."""
    at = torch.zeros(len(prior), dtype=torch.float64)
    error, unresolved, alike = left_open(information, prior, again, at, [])
    assert alike == 0
    return error, unresolved


def observed(model="vit_vanilla", **sigma):
    """What a client of a tiny victim shares of one picture, and what it keeps."""
    victim = load(model, TINY, (make(Defense, "noise", sigma),), "init", CPU)
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return share(victim, images, torch.tensor([3]), ThreatModel(), (0,))


@pytest.mark.parametrize("model", ["vit_vanilla", "vit_mjp"])
def test_the_information_is_that_of_finite_differences(model):
    """Columns of J from the gradient itself, in float64, squared by plain matrix algebra."""
    seen, secret = observed(model, sigma=0.1)
    here = jacobian(seen, secret.images, secret.labels, secret.draw)
    known = precision(seen.model.defense, here.gradient, seen.update.tensors, len(here.at))
    found = here.normal(known)
    vit = seen.model.vit.double()
    pixels, step = secret.images.double().flatten(), 1e-5

    def update(at):
        picture = at.view(secret.images.shape)
        slopes = seen.model.gradient(picture, secret.labels, secret.draw, differentiable=False)
        return torch.cat([slopes[name].flatten() for name in known])

    columns = []
    for row in torch.eye(len(pixels), dtype=torch.float64):
        both = update(pixels + step * row), update(pixels - step * row)
        columns.append((both[0] - both[1]) / (2 * step))
    plain = torch.stack(columns) * torch.cat([w.flatten() for w in known.values()]).sqrt()
    expected = plain @ plain.T
    assert vit.training is False
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize(("norm", "withheld"), [(0.05, False), (0.05, True), (1e3, False)])
def test_a_clipped_example_tells_what_finite_differences_of_it_do(norm, withheld):
    """Above the norm nothing but the direction is shared, and its length is that of all tensors."""
    parts = [make(Defense, "dp_sgd", {"norm": norm, "noise_multiplier": 0.0})]
    parts += [make(Defense, "withhold", {})] if withheld else []
    victim = load("vit_vanilla", TINY, tuple(parts), "init", CPU)
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    seen, secret = share(victim, images, torch.tensor([3]), ThreatModel(), (0,))
    here, vit = jacobian(seen, secret.images, secret.labels, secret.draw), seen.model.vit
    for name, tensor in seen.update.tensors.items():
        assert torch.allclose(here.gradient[name], tensor.double(), rtol=1e-4, atol=1e-7)
    rng = torch.Generator().manual_seed(1)
    known = {n: torch.rand(t.shape, generator=rng).double() for n, t in here.gradient.items()}
    found, pixels, step = here.normal(known), images.double().flatten(), 1e-5
    vit.double()

    def update(at):
        slopes = seen.model.gradient(at.view(images.shape), secret.labels, differentiable=False)
        whole = torch.cat([tensor.flatten() for tensor in slopes.values()]).norm()
        shared = torch.cat([(slopes[n] * w.sqrt()).flatten() for n, w in known.items()])
        return shared * min(1.0, norm / float(whole))

    along = torch.randn(16, len(pixels), generator=rng, dtype=torch.float64)
    changes = [(update(pixels + step * v) - update(pixels - step * v)) / (2 * step) for v in along]
    plain = torch.stack(changes)
    expected = plain @ plain.T
    assert (along @ found @ along.T - expected).abs().max() < 1e-4 * expected.abs().max()


def test_a_linear_update_with_gaussian_errors_has_the_ceiling_of_the_textbook():
    """Where the gradient is A x, the best estimate is a Gaussian's posterior mean: sampled."""
    rng = torch.Generator().manual_seed(0)
    mixing = torch.randn(9, 5, generator=rng)
    prior = torch.diag(torch.tensor([1.0, 0.5, 2.0, 0.1, 3.0])).double()
    sizes = torch.rand(9, generator=rng) + 0.2
    here = Jacobian(lambda w, x: (w["w"] * (mixing @ x)).sum(), {"w": torch.ones(9)}, torch.ones(5))
    known = {"w": sizes**-2}
    found, unresolved = expected_error(
        here.normal(known), prior, lambda along: here.weighed(known, along)
    )
    a = mixing.double()
    gain = prior @ a.T @ torch.linalg.inv(a @ prior @ a.T + torch.diag(sizes.double() ** 2))
    x = prior.sqrt() @ torch.randn(5, 200_000, generator=rng, dtype=torch.float64)
    noise = sizes[:, None].double() * torch.randn(9, 200_000, generator=rng, dtype=torch.float64)
    assert unresolved == 0
    assert (gain @ (a @ x + noise) - x).square().mean() == pytest.approx(found, rel=0.01)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("noise", {"sigma": 0.3}),
        ("noise", {"sigma": 0.3, "relative": False}),
        ("round", {}),
        ("round", {"format": "fp16", "loss_scale": 4.0}),
        ("quantize", {"bits": 4}),
        ("quantize", {"bits": 8}),
        ("quantize", {"bits": 1}),
        ("quantize", {"bits": 4, "ends": "norm"}),
    ],
)
def test_a_defense_knows_the_size_of_its_errors(name, settings):
    defense = make(Defense, name, settings)
    rng = torch.Generator().manual_seed(1)
    plain = {"a": 0.01 * laplace([20_000], rng).float()}
    shared = defense.protect(Update(plain), rng).tensors
    told = defense.deviations(shared)["a"]
    standard = (shared["a"] - plain["a"]).double() / told
    assert standard.square().mean() == pytest.approx(1, abs=0.05)
    assert told.shape == plain["a"].shape


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("flower_ldp", {"clipping_norm": 1.0, "sensitivity": 0.01}),
        ("flower_central", {"seen": "model", "adaptive": False, "clipping_norm": 1.0}),
    ],
)
def test_noise_on_a_clipped_update_weighs_more_on_the_gradient(name, settings):
    """Of a gradient of norm 5 a fifth is left, so the same noise is five times as large on it."""
    defense = make(Defense, name, settings)
    plain = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([-4.0])}
    shared = defense.protect(Update(plain), torch.Generator().manual_seed(0)).tensors
    known = precision(defense, plain, shared, 3)
    for key, error in defense.deviations(shared).items():
        assert torch.allclose(known[key], (5 * error) ** -2, rtol=1e-6)
    short = {key: tensor / 10 for key, tensor in plain.items()}
    found = defense.deviations_at(short, shared, 0.01)
    assert all(torch.equal(found[key], one) for key, one in defense.deviations(shared).items())


def test_what_svt_cut_off_says_nothing_of_its_size():
    defense = make(Defense, "svt", {"gamma": 0.1})
    plain = {"a": torch.tensor([0.05, -3.0, 0.02])}
    known = precision(defense, plain, {"a": torch.tensor([0.7, -0.4, 0.0])}, 3)["a"]
    assert (known > 0).tolist() == [True, False, False]


def test_quantization_by_hand():
    """Sizes of mean 1 in steps of 2: 2 - 2 + 4 / (e^2 - 1), where uniform ones would have 4 / 6."""
    shared = {"a": torch.tensor([2.0, 0.0, -2.0, 0.0]), "b": torch.zeros(3)}
    told = make(Defense, "quantize", {"bits": 2}).deviations(shared)
    assert told["a"].tolist() == pytest.approx([(4 / (math.e**2 - 1)) ** 0.5] * 4)
    assert not told["b"].any()


def test_a_row_of_defenses_has_the_errors_of_all_and_the_entries_of_none():
    row = Stack(parts=tuple(make(Defense, one, {}) for one in ("prune", "noise", "round")))
    shared = {"a": torch.randn(100, generator=torch.Generator().manual_seed(0))}
    parts = [make(Defense, one, {}).deviations(shared)["a"] for one in ("noise", "round")]
    together = sum(one.square() for one in parts)
    assert torch.allclose(row.deviations(shared)["a"].square(), torch.as_tensor(together))
    at = [
        make(Defense, one, {}).deviations_at(shared, shared, 0.01)["a"]
        for one in ("noise", "round")
    ]
    found = row.deviations_at(shared, shared, 0.01)["a"].square()
    assert torch.allclose(found, torch.as_tensor(sum(one.square() for one in at)))
    pruned = {"a": shared["a"] * (shared["a"].abs() > 1.5)}
    known = precision(make(Defense, "prune", {}), shared, pruned, 10)["a"]
    assert ((known > 0) <= (pruned["a"] != 0)).all()
    assert (known > 0).any()


def test_the_prior_is_a_covariance_and_knows_pictures(pictures):
    """Squared differences of neighbors in pictures that it was not fitted to, by color."""
    vit = load("vit_vanilla", {"depth": 1, "embed_dim": 8}, (), "init", CPU).model.vit
    flat = covariance(vit)
    assert torch.equal(flat, flat.T)
    torch.linalg.cholesky(flat)
    found = flat.view(3, 32, 32, 3, 32, 32)
    images = pictures(100)[0].double()
    for apart in (1, 4, 12):
        across = images[..., apart:] - images[..., :-apart]
        down = images[..., apart:, :] - images[..., :-apart, :]
        differs = (across.square().mean((0, 2, 3)) + down.square().mean((0, 2, 3))) / 2
        for color in range(3):
            here, there = found[color, 5, 5], found[color, 5, 5 + apart]
            expected = 2 * (here[color, 5, 5] - there[color, 5, 5])
            assert differs[color] == pytest.approx(float(expected), rel=0.3)


def test_the_terminal_prints_resumes_and_writes_a_table(call, tmp_path):
    words = ("bound", "--model", "vit_vanilla", *WORDS, "--images", "2", "--out", tmp_path)
    given = ("--defense", "noise", "--set", "defense.sigma=0.1")
    code, printed, _ = call(*words, *given)
    assert code == 0
    assert "local, Gaussian" in printed
    first = {one.case.key: one for one in BoundStore(tmp_path).records()}
    assert len(first) == 2
    code, printed, _ = call(*words, *given, "--images", "3")
    assert code == 0
    assert printed.count("columns") == 1  # two were on record
    again = {one.case.key: one for one in BoundStore(tmp_path).records()}
    assert len(again) == 3
    assert all(again[key].seconds == one.seconds for key, one in first.items())
    [row] = pd.read_csv(tmp_path / "bounds.csv").to_dict("records")
    assert (row["n"], row["defense"], row["exact"]) == (3, "noise(sigma=0.1)", 0)
    assert row["version"] == BOUND.version
    assert row["blind"] < row["ceiling_lo"] <= row["ceiling"] <= row["ceiling_hi"]
    own = {key: row[key] for key in ("model", "weights", "weights_sha256", "dataset", "seed")}
    own["threat"] = "knows nothing, batch 1"
    joins = figures(joined(tmp_path), own | {"defense": row["defense"], "attack": "mean"})
    assert joins == {key: row[key] for key in ("ceiling", "ceiling_lo", "ceiling_hi")}
    assert not figures(joined(tmp_path), own | {"defense": "none"})


def test_a_ceiling_falls_with_noise_and_is_exact_without(call, tmp_path):
    suite = tmp_path / "noise.yaml"
    levels = ", ".join(f"{{name: noise, settings: {{sigma: {s}}}}}" for s in (0.01, 0.1, 1, 10))
    suite.write_text(f"model: vit_vanilla\nimages: 1\ndefense: [none, {levels}, quantize, svd]\n")
    code, printed, _ = call("bound", "--suite", suite, *WORDS, "--out", tmp_path)
    assert code == 0
    found = {one.case.defended: one for one in BoundStore(tmp_path).records()}
    names = ["none", *(f"noise(sigma={s})" for s in (0.1, 1.0, 10.0))]
    names.insert(1, "noise")
    heights = [found[name].decibels for name in names]
    assert heights == sorted(heights, reverse=True)
    assert heights[0] == CAP
    assert found["noise(sigma=10.0)"].mse <= found["none"].blind
    assert found["none"].blind > found["quantize"].mse > found["noise"].mse
    assert "What svd does to the update is not counted" in printed
    assert "What quantize does" not in printed


def test_a_key_stays_what_it_was():
    """Records on disk are found by it: as of the first release that bounded."""
    case = BoundCase(
        bound=Part("local_gaussian", "local_gaussian", 1, {}),
        model=Part("vit", "vit", 1, {}),
        control=None,
        weights="trained",
        weights_sha256="1e5" + "0" * 61,
        defense=(Part("noise", "noise", 1, {"sigma": 0.1}),),
        dataset=Part("cifar10", "cifar10", 1, {}),
        images=(3,),
        images_sha256="d",
        seed=0,
    )
    assert case.key == "af47659f616c5f2aa5ac3a0ae65e87969b1890efb3b3f6d8b224f0644041749d"


def test_noise_on_a_clipped_gradient_has_bounds_for_any_network(call, tmp_path):
    row = "[noise, dp_sgd, {name: dp_sgd, settings: {noise_multiplier: 0.01}}]"
    suite = tmp_path / "dp.yaml"
    suite.write_text(f"model: vit_vanilla\nimages: 1\ndefense: {row}\n")
    code, printed, _ = call("bound", "--suite", suite, *WORDS, "--out", tmp_path)
    assert code == 0
    assert "any network" in printed
    table = pd.read_csv(tmp_path / "bounds.csv").set_index("defense")
    assert table.loc["noise", ["named", "unaided", "informed"]].isna().all()
    loud, quiet = (table.loc[name] for name in ("dp_sgd", "dp_sgd(noise_multiplier=0.01)"))
    assert loud["named"] == pytest.approx(0.3891, abs=1e-4)  # ndtr(ndtri(0.1) + 1), of a table
    assert quiet["unaided"] == pytest.approx(loud["unaided"] + 40, abs=1e-3)
    assert loud["blind"] < loud["informed"] < quiet["informed"]
    assert loud["ceiling"] < quiet["ceiling"]
    plain = ("--model", "vit_vanilla", "--defense", "noise", "--images", "1", *WORDS)
    code, printed, _ = call("bound", *plain, "--out", tmp_path / "n")
    assert code == 0
    assert "any network" not in printed


def test_decibels_are_those_of_psnr():
    assert decibels(0.01) == pytest.approx(20)
    assert decibels(0.0) == decibels(1e-30) == CAP
    assert not math.isnan(decibels(1e-300))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--model", "vit_vanilla_small", "--images", "1"), "would fill 181 GB. Choose a victim"),
        (
            ("--model", "vit_vanilla", "--set", "threat.local_steps=2"),
            "Leave threat.local_steps out.",
        ),
        (
            ("--model", "vit_vanilla", "--defense", "soteria", "--images", "1"),
            "changes the gradient by means of activations, and how",
        ),
        (("--model", "vit_vanila"), "Did you mean 'vit_vanilla'?"),
        (("--model", "vit_vanilla", "--defense", "noize"), "Did you mean 'noise'?"),
        (("--model", "vit_vanilla", "--images", "0"), "--images is a number from 1 on"),
    ],
)
def test_bad_input_is_a_sentence(call, tmp_path, words, sentence):
    code, _, told = call("bound", *words, "--out", tmp_path)
    assert code == 2
    assert sentence in told
