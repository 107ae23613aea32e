"""Local steps simulated: the same numbers as the client's, and slopes of the pictures."""

import pytest
import torch

from privbench.attack import Attack
from privbench.attacks._matching.distances import by_token
from privbench.attacks._matching.local import LocalModel
from privbench.attacks._update.reading import from_pictures
from privbench.attacks.fedavg import stepped
from privbench.component import make
from privbench.running.client import local_update
from privbench.seeds import generator
from privbench.threat import Protocol
from privbench.vit import ViT
from tests.conftest import psnr, quiet


@pytest.mark.parametrize("name", ["vit_vanilla", "vit_shuffle"])
@pytest.mark.parametrize("protocol", [Protocol(1), Protocol(3, 0.1, 0.9), Protocol(2, 0.5)])
def test_simulation_and_client_agree(name, protocol, victim, pictures):
    model = victim(name).model
    images, labels = pictures(2)
    draw = model.defense.draw(model.vit, 2, generator("draw"))
    truth = local_update(model, images, labels, draw, protocol, generator("a"))
    local = LocalModel(model.vit, model.defense, protocol)
    found = local.gradient(images, labels, draw, differentiable=False)
    assert set(found) == set(truth)
    for key, tensor in truth.items():
        assert (found[key] - tensor).norm() <= 1e-4 * tensor.norm() + 1e-9
    (one,) = local.gradient(images, labels, draw, of=[ViT.PROJECTION]).values()
    assert torch.allclose(one, found[ViT.PROJECTION])


def test_slopes_go_through_all_steps(victim, pictures):
    subject = victim("vit_vanilla", depth=1)
    subject.model.vit.double()
    model = LocalModel(subject.model.vit, subject.model.defense, Protocol(3, 0.5, 0.9))
    images, labels = pictures(1)
    images = images.double().requires_grad_()
    way = torch.randn(images.shape, generator=generator("way")).double()

    def size(pixels):
        return model.gradient(pixels, labels, of=[ViT.POSITIONS])[ViT.POSITIONS].square().sum()

    (slope,) = torch.autograd.grad(size(images), images)
    ahead, behind = (size(images.detach() + h * way).item() for h in (1e-4, -1e-4))
    assert float((slope * way).sum()) == pytest.approx((ahead - behind) / 2e-4, rel=1e-5)


def test_only_the_simulation_is_matched_by_the_truth(victim, shared):
    seen, secret = shared(victim("vit_vanilla"), local_steps=3, local_rate=0.1, momentum=0.9)
    asked = by_token(seen, seen.update.tensors)

    def distance(model):
        found = model.gradient(secret.images, secret.labels, of=asked.names, differentiable=False)
        return float(asked.distance(found, asked.facts))

    assert distance(LocalModel(seen.model.vit, seen.model.defense, seen.protocol)) < 1e-4
    assert distance(seen.model) > 0.1


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("name", ["vit_vanilla", "vit_mjp"])
def test_only_the_simulated_step_of_adamw_is_matched_by_the_truth(name, steps, victim, shared):
    """One step is not divided back into a gradient, and a penalty is on both sides."""
    subject = victim(name, depth=1)
    settings = {"optimizer": "adamw", "wire": "weights", "local_rate": 1e-3, "local_steps": steps}
    seen, secret = shared(subject, **settings)

    def distance(images, soft=0.0):
        local = LocalModel(subject.model.vit, subject.model.defense, seen.protocol, soft)
        view = stepped(seen, local)
        asked = by_token(view, from_pictures(view))
        draw = secret.draw and secret.draw.rows([0])
        given = (images, secret.labels, draw)
        found = local.gradient(*given, of=asked.names, differentiable=False)
        return float(asked.distance(found, asked.facts))

    assert distance(secret.images) < 1e-2
    assert distance(1 - secret.images) > 0.3
    assert distance(secret.images) < distance(secret.images, 0.1) < distance(1 - secret.images, 0.1)


def test_a_soft_division_is_no_sign(victim, pictures):
    model = victim("vit_vanilla", depth=1).model
    protocol = Protocol(optimizer="adamw", wire="weights", local_rate=1e-3)
    images, labels = pictures(1)

    def signs(soft):
        local = LocalModel(model.vit, model.defense, protocol, soft)
        found = local.gradient(images, labels, of=[ViT.PROJECTION], differentiable=False)
        return float((found[ViT.PROJECTION].abs() > 0.99).float().mean())

    assert signs(0.0) > 0.9
    assert signs(0.1) < 0.1


@pytest.mark.slow
def test_it_finds_what_one_gradient_does_not_explain(victim, shared):
    seen, secret = shared(victim("vit_vanilla"), local_steps=3, local_rate=0.1, momentum=0.9)
    found = {
        name: make(Attack, name, {"steps": 66}).reconstruct(seen, generator("a"), quiet)
        for name in ("gradinv", "fedavg")
    }
    assert found["fedavg"].objective < 0.3 * found["gradinv"].objective
    fed, plain = (psnr(found[name].images, secret.images) for name in ("fedavg", "gradinv"))
    assert fed > plain + 2
    assert found["fedavg"].gradient_calls == 3 * found["gradinv"].gradient_calls


def test_dropout_that_is_not_simulated_is_said(victim, shared):
    seen, _ = shared(victim("vit_vanilla", dropout=0.1), local_steps=2, training=True)
    answer = make(Attack, "fedavg", {"steps": 2}).reconstruct(seen, generator("a"), quiet)
    assert answer.warnings == ("The client drops activations, and its simulation does not.",)


def test_one_step_is_gradinv(victim, shared):
    seen, _ = shared(victim("vit_vanilla"))
    one, two = (
        make(Attack, name, {"steps": 12}).reconstruct(seen, generator("a"), quiet)
        for name in ("gradinv", "fedavg")
    )
    assert torch.allclose(one.images, two.images, atol=1e-3)
