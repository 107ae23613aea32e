"""A loss that weights and mask alone decide: the client adds it, a server takes it away again."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from privbench.attacks._update.reading import from_pictures
from privbench.attacks.pe_ls import PositionLeastSquares
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import ThreatModel
from privbench.vit import ViT
from tests.conftest import psnr, quiet
from tests.defenses.test_localization import END, arrays, expected, heads, learned, predict


@learned
@pytest.mark.parametrize("batch", [1, 2])
def test_the_client_adds_its_gradient(victim, pictures, head, batch):
    subject = victim("vit_mjp", localization=head, per="image", position_std=1.0)
    vit = subject.model.vit.double()
    images, labels = pictures(batch)
    seen, secret = share(subject, images.double(), labels, ThreatModel(batch_size=batch), (0,))
    plain = subject.model.gradient(secret.images, secret.labels, secret.draw, differentiable=False)
    added = {name: (seen.update.tensors[name] - plain[name]).numpy() for name in plain}
    (table, layers), rng, step = arrays(vit), np.random.default_rng(1), 1e-7
    places = added.pop(ViT.POSITIONS)[0, 1:]
    heads = [added.pop(name) for name in list(added) if name.startswith("localizer")]
    assert not any(tensor.any() for tensor in added.values())
    for which, gradient in enumerate([places, *heads]):
        change = rng.normal(size=gradient.shape)

        def loss(sign, which=which, change=change):
            inputs = [table, *layers]
            inputs[which] = inputs[which] + sign * step * change
            rows, *maps = inputs
            guess = {cell: predict(row, maps) for cell, row in enumerate(rows)}
            return END * expected(rows, secret.draw, guess.__getitem__)

        slope = (loss(1) - loss(-1)) / (2 * step)
        close = 1e-5 * float(np.linalg.norm(gradient))
        assert close > 0
        assert (gradient * change).sum() == pytest.approx(slope, abs=close)


@heads
def test_zero_rows_of_the_position_gradient_are_still_the_mask(victim, shared, head):
    for ratio in (0.1, 0.6):
        subject = victim("vit_mjp", localization=head, ratio=ratio, localization_end=1.0)
        seen, secret = shared(subject)
        zero = (seen.update.tensors[ViT.POSITIONS][0] == 0).all(dim=1)
        assert not zero[0]
        assert torch.equal(zero[1:], secret.draw.mask[0])


def worst(found, truth):
    """Largest relative difference of any tensor, but for a factor of the whole."""
    size, wanted = (torch.cat([half[n].flatten() for n in truth]).norm() for half in (found, truth))
    return max(
        float((found[name] * wanted / size - tensor).norm() / tensor.norm().clamp(min=1e-20))
        for name, tensor in truth.items()
    )


@heads
@pytest.mark.parametrize("weight", [END, 1.0])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_server_removes_it(victim, shared, head, weight, batch):
    subject = victim("vit_mjp", localization=head, localization_end=weight)
    seen, secret = shared(subject, batch)
    plain = seen.model.gradient(secret.images, secret.labels, secret.draw, differentiable=False)
    cleaned = from_pictures(seen)
    assert {name for name in plain if name not in cleaned} == {
        name for name in plain if name.startswith("localizer.")
    }
    assert worst(cleaned, {name: plain[name] for name in cleaned}) < 1e-6
    assert worst(seen.update.tensors, plain) > 5e-6


def solve(seen):
    return PositionLeastSquares().reconstruct(seen, generator("test"), quiet).images


@heads
def test_it_hides_no_picture_from_the_closed_form(victim, shared, head):
    subject, bare = (victim("vit_mjp", ratio=0.0, localization=kind) for kind in (head, "none"))
    (seen, secret), (usual, _) = shared(subject), shared(bare)
    found = psnr(solve(seen), secret.images)
    assert found > 60
    # both at float32's rounding, which differs by a decibel or so between processors
    assert abs(found - psnr(solve(usual), secret.images)) < 3
    # A server with the model of the bare victim knows of no loss and subtracts none.
    assert psnr(solve(replace(seen, model=bare.model)), secret.images) < 20


@learned
def test_a_scaled_update_does_not_hide_it(victim, shared, head):
    subject = victim("vit_mjp", "clip", ratio=0.0, localization=head)
    bare = victim("vit_mjp", "clip", ratio=0.0, localization="none")
    (seen, secret), (usual, _) = shared(subject), shared(bare)
    found = psnr(solve(seen), secret.images)
    assert found > 60
    # both at float32's rounding, which differs by a decibel or so between processors
    assert abs(found - psnr(solve(usual), secret.images)) < 3
