"""Soteria, PRECODE and CENSOR: each from its formula, and what an update of each still tells."""

from typing import Any

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.func import jacrev

from privbench.attacks._auto.verdict import Verdict
from privbench.attacks._update.reading import told
from privbench.attacks.pe_ls import PositionLeastSquares
from privbench.client_step import ClientStep
from privbench.component import make
from privbench.defense import Defense
from privbench.defenses.censor import Censor
from privbench.errors import BadSetting
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import ThreatModel
from privbench.victims.load import load
from privbench.vit import ViT
from tests.conftest import CPU, psnr, quiet

SMALL = {"depth": 1, "embed_dim": 16, "num_heads": 2, "patch_size": 8}
WIDE = {"depth": 1, "embed_dim": 128, "num_heads": 2}


def subject(*rows, model="vit_vanilla", small=SMALL) -> Any:
    parts = tuple(make(Defense, name, settings) for name, settings in rows)
    return load(model, small, parts, "init", CPU)


def updates(victim, pictures, batch=1, seed=0, **threat) -> Any:
    images, labels = pictures(batch)
    return share(victim, images, labels, ThreatModel(batch_size=batch, **threat), (seed,))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("percentile", [0.0, 25.0, 80.0])
def test_soteria_zeroes_the_columns_with_the_smallest_ratio_of_slope_to_size(
    batch, percentile, pictures
):
    seen, secret = updates(subject(("soteria", {"percentile": percentile})), pictures, batch)
    plain = seen.model.gradient(secret.images, secret.labels, differentiable=False)
    vit = seen.model.vit
    scores = torch.zeros(16)
    for image in secret.images:  # one picture's Jacobian after the other, by torch.func

        def features(x):
            return vit.features(vit.encode(x[None], vit.positions))[0]

        slopes = jacrev(features)(image).flatten(1).detach()
        scores += slopes.norm(dim=1) / features(image).detach().abs()
    pruned = scores < torch.quantile(scores, percentile / 100)
    assert int(pruned.sum()) == {0.0: 0, 25.0: 4, 80.0: 12}[percentile]
    expected = plain[ViT.HEAD] * ~pruned
    assert torch.equal(seen.update.tensors[ViT.HEAD], expected)
    others = [name for name in plain if name != ViT.HEAD]
    assert all(torch.equal(seen.update.tensors[name], plain[name]) for name in others)
    kept = seen.model.defense.measured(seen.update.tensors)
    assert set(kept) == ({ViT.HEAD} if percentile else set())
    if percentile:
        assert torch.equal(kept[ViT.HEAD], (~pruned).expand(10, -1))


def test_soteria_has_nothing_to_do_where_the_head_is_not_shared(pictures):
    seen, _ = updates(subject(("bitfit", {"head": False}), ("soteria", {})), pictures)
    assert all(tensor.any() for name, tensor in seen.update.tensors.items() if "head" in name)


def test_precode_is_a_bottleneck_with_the_divergence_that_torch_computes(pictures):
    images, labels = pictures(3)
    free, weighed = (subject(("precode", {"width": 5, "beta": beta})).model for beta in (0, 0.5))
    draw = free.defense.draw(free.vit, 3, generator("d"))
    with torch.no_grad():
        losses = [ClientStep(one.vit, one.defense)(images, labels, draw) for one in (free, weighed)]
        inner, vit = free.vit.bottleneck, free.vit
        plain = vit.features(vit.encode(images, vit.positions))
        mean, raw = inner.encoder(plain).chunk(2, dim=1)
        spread = torch.log(1 + torch.exp(raw - 5))
        code = mean + spread * draw.tensors()[0]
        assert torch.allclose(losses[0][1].logits, vit.classify(inner.decoder(code)), atol=1e-5)
        still = vit.classify(inner.decoder(mean))
        assert torch.allclose(free.logits(images), still, atol=1e-6), "evaluation draws nothing"
    apart = kl_divergence(Normal(mean, spread), Normal(0.0, 1.0)).sum(1).mean()
    assert float(losses[1][0] - losses[0][0]) == pytest.approx(0.5 * float(apart), rel=1e-4)


@pytest.mark.parametrize("row", [[], [("clip", {"norm": 1e-3})], [("soteria", {})]])
@pytest.mark.parametrize("model", ["vit_vanilla", "vit_mjp"])
def test_the_update_of_one_picture_tells_precodes_noise(row, model, pictures):
    victim = subject(("precode", {"width": 5}), *row, model=model)
    seen, secret = updates(victim, pictures)
    found, (*_, truth) = told(seen), secret.draw.tensors()
    assert found is not None
    *rest, noise = found.tensors()
    assert torch.allclose(noise, truth, atol=1e-2)
    assert bool(rest) is (model == "vit_mjp"), "and the mask beside it"
    verdict = Verdict(seen, generator("verdict"))
    images = secret.fed if model == "vit_mjp" else secret.images
    assert verdict.distance(images, secret.labels).at_floor
    assert not verdict.distance(images.flip(3), secret.labels).at_floor


def test_noise_on_the_update_or_a_batch_keeps_precodes_noise(pictures):
    loud = subject(("precode", {"width": 5}), ("noise", {"sigma": 0.1}))
    assert told(updates(loud, pictures)[0]) is None
    assert told(updates(subject(("precode", {"width": 5})), pictures, 2)[0]) is None
    kept = subject(("precode", {"width": 5}), ("withhold", {"tensors": "bottleneck.decoder.bias"}))
    assert told(updates(kept, pictures)[0]) is None


@pytest.mark.parametrize("row", [("soteria", {}), ("soteria", {"percentile": 99}), ("precode", {})])
def test_the_closed_form_returns_the_picture(row, pictures):
    seen, secret = updates(subject(row, small=WIDE), pictures)
    found = PositionLeastSquares().reconstruct(seen, generator("test"), quiet).images
    assert psnr(found, secret.images) > 60


def parallel(one, other):
    return float((one.double() * other.double()).sum() / (one.norm() * other.norm()))


def test_censor_shares_a_direction_orthogonal_to_every_tensor_and_as_long(pictures):
    seen, secret = updates(subject(("censor", {"trials": 3})), pictures, 2)
    plain = seen.model.gradient(secret.images, secret.labels, differentiable=False)
    for name, tensor in seen.update.tensors.items():
        assert float(tensor.norm()) == pytest.approx(float(plain[name].norm()), rel=1e-4)
        if tensor.any():
            assert abs(parallel(tensor, plain[name])) < 1e-4


def loss_at(victim, secret, update, rate):
    step = ClientStep(victim.model.vit, victim.model.defense)
    moved = {
        f"vit.{n}": p - rate * update[n] if n in update else p
        for n, p in victim.model.vit.trained().items()
    }
    with torch.no_grad():
        return float(
            torch.func.functional_call(step, moved, (secret.images, secret.labels, None))[0]
        )


def test_censor_takes_the_trial_with_the_lowest_loss(pictures):
    single, many = (subject(("censor", {"trials": t, "rate": 0.05})) for t in (1, 6))
    one, secret = updates(single, pictures, 2)
    six, _ = updates(many, pictures, 2)
    # the first trial of both is the same draw, so more of them can only be better
    lowest = loss_at(many, secret, six.update.tensors, 0.05)
    assert lowest <= loss_at(single, secret, one.update.tensors, 0.05)
    found = [
        loss_at(many, secret, make(Defense, "censor", {"trials": 1, "rate": 0.05}).finish(
            one.model.gradient(secret.images, secret.labels, differentiable=False),
            _outputs(many, secret), rng), 0.05)
        for rng in [generator("dropout", 0)] for _ in range(6)
    ]  # fmt: skip
    assert lowest == pytest.approx(min(found), rel=1e-6)


def _outputs(victim, secret):
    """Outputs as a step hands them to `finish`."""
    caught = []

    class Spy(Defense):
        def finish(self, gradients, outputs, rng):
            caught.append(outputs)
            return dict(gradients)

    step = ClientStep(victim.model.vit, Spy())
    step.run(secret.images, secret.labels, None, generator("spy"))
    return caught[0]


@pytest.mark.parametrize("norm", [0.1, 1.0, 10.0])
def test_the_released_projection_is_orthogonal_at_norm_one_alone(norm):
    """From the released code's arithmetic, by hand: r - (r . g / |g|) g for r of length one."""
    gradient = torch.randn(40, generator=generator("g"))
    gradient *= norm / gradient.norm()
    official, paper = Censor(variant="official"), Censor()
    for seed in range(5):
        drawn = official._drawn(gradient, generator("r", seed))
        r = torch.randn(40, generator=generator("r", seed))
        r = r / r.norm()
        by_hand = r - (r @ gradient) / gradient.norm() * gradient
        assert torch.allclose(drawn, by_hand / by_hand.norm() * norm, atol=1e-4 * norm)
        along = (r @ gradient) / norm * (1 - norm)
        expected = float(along / by_hand.norm())
        assert parallel(drawn, gradient) == pytest.approx(expected, abs=1e-4)
        right = paper._drawn(gradient, generator("r", seed))
        assert abs(parallel(right, gradient)) < 1e-6


def test_the_released_defense_shares_the_gradient_itself_where_no_trial_helps(pictures):
    victim = subject(("censor", {"variant": "official", "trials": 1, "rate": 100.0}))
    seen, secret = updates(victim, pictures)
    plain = seen.model.gradient(secret.images, secret.labels, differentiable=False)
    assert all(torch.equal(seen.update.tensors[name], plain[name]) for name in plain)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("soteria", "percentile", 100),
        ("soteria", "percentile", -1),
        ("precode", "width", 0),
        ("precode", "beta", -1),
        ("censor", "trials", 0),
        ("censor", "rate", 0),
        ("censor", "variant", "theirs"),
    ],
)
def test_a_setting_out_of_range_is_refused(name, setting, value):
    with pytest.raises(BadSetting, match=f"{name}: '{setting}' cannot be"):
        make(Defense, name, {setting: value})
