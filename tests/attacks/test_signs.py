"""Mixtures with random signs: what the grid and the likeness of neighbors tell of them."""

import pytest
import torch

from privbench.attacks._peel.signs import MOST, common, unflipped
from privbench.attacks.unmix import positive
from privbench.component import make
from privbench.defense import Defense
from privbench.observation import Observation, PublicModel
from privbench.seeds import generator
from privbench.threat import Update
from privbench.victims.load import load
from tests.conftest import CPU, psnr


@pytest.mark.parametrize(("rows", "least"), [([0, 1], 25), ([0, 1, 3], 40), ([2, 5, 7, 8], 50)])
def test_instahide_of_a_batch_is_undone_but_for_negatives(rows, least, pictures):
    images, b = pictures(max(rows) + 1)[0][rows], len(rows)
    defense = make(Defense, "instahide", {})
    vit = load("vit_patch8", {"depth": 1}, (), "init", CPU).model.vit
    draw = defense.draw(vit, b, generator("signs", b, rows[0]))
    inputs, mixing = defense.prepare(vit, images, torch.eye(b).double(), draw)
    assert psnr(inputs, images) < 15
    found = unflipped(inputs, mixing + 1e-5 * torch.rand(b, b, generator=generator("off")))
    assert found is not None
    assert max(psnr(found, images), psnr(1 - found, images)) > least


def test_signs_of_a_worked_array():
    """Two pictures of one row: where the first has an edge through gray, the second has none."""
    true = torch.tensor([[[[0.4, 0.3, -0.3]]], [[[0.2, 0.4, 0.4]]]]).double()
    flipped = true * torch.tensor([1.0, -1.0, 1.0])
    assert common(flipped).flatten().tolist() == [1, -1, 1]
    assert common(flipped[:1]).flatten().tolist() == [1, -1, -1]  # the first alone: no edge


def test_more_mixtures_than_can_be_tried_are_left():
    assert unflipped(torch.rand(MOST + 1, 3, 2, 2), torch.eye(MOST + 1)) is None


def test_a_trained_network_tells_pictures_from_negatives(pictures):
    images, labels = pictures(4)
    subject = load("vit_patch8", {}, (), None, CPU)
    model = PublicModel(subject.model.vit, subject.model.defense)
    seen = Observation(model, Update({}), (4, 3, 32, 32))
    assert torch.equal(positive(seen, images, labels), images)
    assert torch.allclose(positive(seen, 1 - images, labels), images)
