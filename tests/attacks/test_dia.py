"""Dropout inversion: masks that the update shows are read, the others are moved with the pixels."""

import copy
from dataclasses import replace

import pytest
import torch

from privbench.attack import Attack
from privbench.attacks.dia import _read
from privbench.component import make
from privbench.errors import BadUpdate
from privbench.seeds import generator
from privbench.threat import Update
from privbench.variants import drop_by, dropouts
from privbench.vit import ViT
from tests.conftest import CPU, psnr, quiet


def true_masks(subject, images, seed):
    """Masks that the client threw: the same dice once more."""
    vit = copy.deepcopy(subject.model.vit)
    drop_by(vit, generator("dropout", seed), CPU)
    thrown = {}
    for name, module in dropouts(vit).items():
        draw = module.masks
        assert draw is not None

        def keep(shape, name=name, draw=draw):
            thrown[name] = draw(shape)
            return thrown[name]

        module.masks = keep
    subject.model.defense.logits(vit, images)
    return thrown


@pytest.mark.parametrize("depth", [1, 3])
def test_what_the_update_shows_of_the_masks_is_right(depth, victim, shared):
    subject = victim("vit_vanilla", dropout=0.2, depth=depth)
    seen, secret = shared(subject, training=True)
    drops = dropouts(subject.model.vit)
    read = _read(drops, seen.update.tensors, subject.model.vit)
    last = f"backbone.blocks.{depth - 1}"
    rest = ("attn.proj_drop", "mlp.drop1", "mlp.drop2")
    assert set(read) == {"backbone.pos_drop", *(f"{last}.{name}" for name in rest)}
    truth = true_masks(subject, secret.images, 0)
    assert torch.equal(read.pop("backbone.pos_drop"), truth["backbone.pos_drop"])
    for name, found in read.items():
        assert torch.equal(found, truth[name][0, 0])  # of the class token


def test_what_shows_no_zeros_shows_no_mask(victim, shared):
    subject = victim("vit_vanilla", "noise", dropout=0.2)
    seen, _ = shared(subject, training=True)
    assert not _read(dropouts(subject.model.vit), seen.update.tensors, subject.model.vit)


@pytest.mark.parametrize(("batch", "steps"), [(2, 1), (1, 2)])
def test_masks_of_several_passes_are_not_read_off_one_update(batch, steps, victim, shared):
    subject = victim("vit_vanilla", dropout=0.2, depth=1)
    seen, _ = shared(subject, batch, training=True, local_steps=steps)
    answer = make(Attack, "dia", {"steps": 2}).reconstruct(seen, generator("a"), quiet)
    one = 65 * 128 * 3 + 65 * 512 + 4 * 65 * 65  # positions, projection, two of the MLP; attention
    assert answer.report["masks"] == batch * one
    assert any("2 local steps" in warning for warning in answer.warnings) == (steps == 2)


def test_pictures_come_nearer_than_without_masks(victim, shared):
    seen, secret = shared(victim("vit_vanilla", dropout=0.1, depth=1), training=True)
    found = {
        name: make(Attack, name, {"steps": 66}).reconstruct(seen, generator("a"), quiet)
        for name in ("gradinv", "dia")
    }
    blind, aware = (psnr(found[name].images, secret.images) for name in ("gradinv", "dia"))
    assert aware > blind + 2
    assert found["dia"].report["masks"] == 4 * 65 * 65  # only those of attention are left open


def test_without_dropout_it_is_plain_matching_and_says_so(victim, shared):
    for settings, training in (({"dropout": 0.1}, False), ({}, True)):
        seen, _ = shared(victim("vit_vanilla", **settings), training=training)
        answer, plain = (
            make(Attack, name, {"steps": 8}).reconstruct(seen, generator("a"), quiet)
            for name in ("dia", "gradinv")
        )
        assert answer.report["masks"] == 0
        assert any("drops nothing" in warning for warning in answer.warnings)
        assert torch.allclose(answer.images, plain.images, atol=1e-3)


def test_the_model_keeps_no_masks(victim, shared):
    subject = victim("vit_vanilla", dropout=0.1)
    seen, _ = shared(subject, training=True)
    make(Attack, "dia", {"steps": 2}).reconstruct(seen, generator("a"), quiet)
    assert all(one.masks is None for one in dropouts(subject.model.vit).values())


def test_nan_is_a_sentence(victim, shared):
    seen, _ = shared(victim("vit_vanilla"))
    broken = dict(seen.update.tensors)
    broken[ViT.PROJECTION] = torch.full_like(broken[ViT.PROJECTION], torch.nan)
    with pytest.raises(BadUpdate, match="NaN or infinity"):
        make(Attack, "dia", {"steps": 2}).reconstruct(
            replace(seen, update=Update(broken)), generator("a"), quiet
        )
