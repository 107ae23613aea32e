"""Clipping example by example, its noise, and Laplace noise: against loops and distributions."""

from typing import Any

import pytest
import torch
from scipy.stats import kstest
from torch import nn

from privbench.attacks._update.stated import of_defense
from privbench.client_step import ClientStep
from privbench.component import make
from privbench.defense import Defense
from privbench.errors import BadSetting
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import ThreatModel, Update
from privbench.victims.load import load
from privbench.vit import ViT
from tests.conftest import CPU

SMALL = {"depth": 1, "embed_dim": 16, "num_heads": 2}


def observed(name, pictures, batch: int = 3, seed: int = 0, **settings: Any):
    victim = load("vit_vanilla", SMALL, (make(Defense, name, settings),), "init", CPU)
    images, labels = pictures(batch)
    return share(victim, images, labels, ThreatModel(batch_size=batch), (seed,))


def looped(seen, secret, norm):
    """One backward pass an example, clipped by torch's own function, and their mean."""
    vit = seen.model.vit
    total = {}
    for image, label in zip(secret.images, secret.labels, strict=True):
        loss = nn.functional.cross_entropy(vit(image[None]), label[None])
        trained = vit.trained()
        slopes = torch.autograd.grad(loss, list(trained.values()))
        held = [nn.Parameter(torch.zeros_like(one)) for one in slopes]
        for parameter, slope in zip(held, slopes, strict=True):
            parameter.grad = slope.clone()
        nn.utils.clip_grad_norm_(held, norm)
        for key, parameter in zip(trained, held, strict=True):
            assert parameter.grad is not None
            total[key] = total.get(key, 0) + parameter.grad / len(secret.images)
    return total


@pytest.mark.parametrize(
    ("name", "settings"), [("clip", {"of": "example"}), ("dp_sgd", {"noise_multiplier": 0.0})]
)
@pytest.mark.parametrize("norm", [0.05, 1e3])
def test_clipped_examples_are_those_of_a_loop(name, settings, norm, pictures):
    seen, secret = observed(name, pictures, norm=norm, **settings)
    for key, tensor in looped(seen, secret, norm).items():
        assert torch.allclose(seen.update.tensors[key], tensor, rtol=1e-4, atol=1e-7), key


def test_the_noise_is_its_multiple_of_the_norm_over_the_batch(pictures):
    given: dict[str, Any] = {"norm": 0.3, "noise_multiplier": 1.5}
    noisy, _ = observed("dp_sgd", pictures, **given)
    plain, _ = observed("dp_sgd", pictures, norm=0.3, noise_multiplier=0.0)
    again, _ = observed("dp_sgd", pictures, **given)
    pairs = noisy.update.tensors.items()
    noise = torch.cat([(t - plain.update.tensors[n]).flatten() for n, t in pairs])
    assert kstest(noise.numpy(), "norm", args=(0, 1.5 * 0.3 / 3)).pvalue > 1e-3
    assert all(torch.equal(t, again.update.tensors[n]) for n, t in pairs)


@pytest.mark.parametrize(("distribution", "law"), [("gaussian", "norm"), ("laplace", "laplace")])
def test_noise_of_a_kind_has_its_law_and_the_stated_deviation(distribution, law):
    defense = make(Defense, "noise", {"sigma": 0.3, "distribution": distribution})
    before = 2 * torch.ones(20_000)
    after = defense.protect(Update({"a": before}), generator("n")).tensors["a"]
    scale = 0.6 / (2**0.5 if law == "laplace" else 1)
    assert kstest((after - before).numpy(), law, args=(0, scale)).pvalue > 1e-3
    assert float((after - before).std()) == pytest.approx(0.6, rel=0.03)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("noise", "distribution", "cauchy"),
        ("clip", "of", "batch"),
        ("dp_sgd", "noise_multiplier", -1),
        ("dp_sgd", "norm", 0),
    ],
)
def test_a_setting_out_of_range_is_refused(name, setting, value):
    with pytest.raises(BadSetting, match=f"{name}: '{setting}' cannot be"):
        make(Defense, name, {setting: value})


def test_batch_statistics_and_single_examples_are_refused_in_a_sentence(pictures):
    victim = load("vit_vanilla", SMALL, (make(Defense, "dp_sgd", {}),), "init", CPU)
    victim.model.vit.backbone.norm = nn.BatchNorm1d(16)
    step = ClientStep(victim.model.vit, victim.model.defense)
    with pytest.raises(BadSetting, match=r"backbone.norm mixes them by the statistics"):
        step.each(*pictures(2))


@pytest.mark.parametrize("batch", [1, 3])
def test_everybody_knows_its_noise(batch, pictures):
    seen, secret = observed("dp_sgd", pictures, batch, noise_multiplier=2.0, norm=0.5)
    found = seen.model.defense.deviations(seen.update.tensors, batch)
    assert all((t == 1.0 / batch).all() for t in found.values())
    true = looped(seen, secret, 0.5)
    off = torch.cat([(t - true[n]).double().flatten() for n, t in seen.update.tensors.items()])
    assert off.square().mean().sqrt() == pytest.approx(1.0 / batch, rel=0.03)


@pytest.mark.parametrize(
    "protocol",
    [
        {"pictures": 6, "batch_size": 2, "epochs": 2},
        {"pictures": 6, "batch_size": 2, "clients": 2},
        {"batch_size": 3, "local_steps": 4},
        {"batch_size": 2, "local_steps": 3, "momentum": 0.9},
    ],
)
def test_the_noise_of_all_steps_of_all_clients_has_the_stated_deviation(protocol, pictures):
    """Over seeds: at this rate and noise all that differs among updates is the noise."""
    threat = ThreatModel(local_rate=1e-6, **protocol)
    defense = make(Defense, "dp_sgd", {"noise_multiplier": 2.0, "norm": 50.0})
    victim = load("vit_vanilla", SMALL, (defense,), "init", CPU)
    images, labels = pictures(threat.held * threat.clients)
    seen = [share(victim, images, labels, threat, (seed,))[0] for seed in range(16)]
    for name in (ViT.POSITIONS, "backbone.head.weight"):
        sample = torch.stack([one.update.tensors[name] for one in seen]).double()
        stated = of_defense(seen[0])[name]
        assert sample.var(0).mean().sqrt() == pytest.approx(float(stated.mean()), rel=0.05), name


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("noise", {"sigma": 0.5, "relative": False}),
        ("flower_ldp", {}),
        ("noise", {"sigma": 0.5}),
    ],
)
def test_each_client_has_noise_of_its_own(name, settings, pictures):
    """The mean over clients has less of it; where it goes with the gradient, so does its size."""
    victim = load("vit_vanilla", SMALL, (make(Defense, name, settings),), "init", CPU)
    images, labels = pictures(4)
    threat = ThreatModel(batch_size=1, clients=4)
    seen = [share(victim, images, labels, threat, (seed,))[0] for seed in range(12)]
    for key in (ViT.POSITIONS, "backbone.blocks.0.mlp.fc1.weight"):
        sample = torch.stack([one.update.tensors[key] for one in seen]).double()
        stated = torch.stack([of_defense(one)[key].square().mean() for one in seen]).mean().sqrt()
        relative = 0.25 if settings == {"sigma": 0.5} else 0.06  # clients' sizes are guessed there
        assert sample.var(0).mean().sqrt() == pytest.approx(float(stated), rel=relative), key
