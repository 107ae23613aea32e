"""What defenses in a row provably do is no protection: the truth explains all that they left."""

from dataclasses import replace

import pytest
import torch

from privbench.attack import Attack
from privbench.attacks._auto.verdict import Verdict
from privbench.attacks._matching.distances import relative
from privbench.attacks._matching.engine import Matching
from privbench.attacks._update.reading import from_pictures
from privbench.component import find, make, names
from privbench.defense import Defense
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import ThreatModel, Update
from privbench.victims.load import load
from tests.conftest import CPU

SMALL = {"depth": 1, "embed_dim": 32, "num_heads": 2}
RECIPES = [
    (name, {"recipe": recipe} if recipe else {})
    for name in names("attacks")
    if issubclass(kind := find(Attack, name), Matching)
    for recipe in (("repaired", "published") if "recipe" in kind.setting_names() else ("",))
]
CLIP, APART = ("clip", {"norm": 1e-3}), ("clip", {"of": "tensor", "norm": 1e-3})
HALF, MOST = ("prune", {"ratio": 0.5}), ("prune", {"ratio": 0.8})
ROUND, FP16, WITHHOLD = ("round", {}), ("round", {"format": "fp16"}), ("withhold", {})
ROWS = {
    "clip": [CLIP],
    "clip by tensor": [APART],
    "prune": [HALF],
    "prune more": [MOST],
    "clip, prune": [CLIP, HALF],
    "prune, clip": [MOST, CLIP],
    "prune, clip by tensor": [HALF, APART],
    "prune twice": [HALF, MOST],
    "clip twice": [APART, CLIP],
    "clip, withhold": [CLIP, WITHHOLD],
    "clip by tensor, withhold": [APART, WITHHOLD],
    "clip, bf16": [CLIP, ROUND],
    "bf16, clip": [ROUND, CLIP],
    "prune, clip, fp16": [HALF, CLIP, FP16],
    "prune, bf16, clip by tensor": [HALF, ROUND, APART],
}
"""They hide next to nothing of what they leave."""


def observe(pictures, row, model="vit_vanilla", factor=1.0):
    """What a server sees, multiplied, and what is secret."""
    parts = tuple(make(Defense, name, settings) for name, settings in row)
    images, labels = pictures(1)
    victim = load(model, SMALL, parts, "init", CPU)
    seen, secret = share(victim, images, labels, ThreatModel(), (0,))
    scaled = {name: tensor * factor for name, tensor in seen.update.tensors.items()}
    return replace(seen, update=Update(scaled, seen.update.withheld)), secret


@pytest.mark.parametrize("model", ["vit_vanilla", "vit_mjp"])
@pytest.mark.parametrize("row", ROWS)
def test_every_distance_is_least_at_the_truth(row, model, pictures):
    seen, secret = observe(pictures, ROWS[row], model)
    shared, rounded = from_pictures(seen), {ROUND[0]} & {name for name, _ in ROWS[row]}
    found = [
        seen.model.gradient(images, secret.labels, secret.draw, differentiable=False)
        for images in (secret.images, secret.images.flip(3))
    ]
    for name, settings in RECIPES:
        attack = make(Attack, name, settings)
        assert isinstance(attack, Matching)
        asked = attack.compare(seen, shared)
        right, wrong = (float(asked.distance(one, asked.facts)) for one in found)
        assert right < (0.3 if rounded else 1e-3) * wrong + 1e-6, (name, settings)


@pytest.mark.parametrize(("row", "factor"), [*((row, 1e-12) for row in ROWS), ("clip", 1e12)])
def test_the_verdict_on_the_truth_is_that_it_explains_the_update(row, factor, pictures):
    seen, secret = observe(pictures, ROWS[row], factor=factor)
    verdict = Verdict(seen, generator("verdict"))
    assert verdict.distance(secret.images, secret.labels).at_floor
    assert not verdict.distance(secret.images.flip(3), secret.labels).at_floor


@pytest.mark.parametrize("by_tensor", [False, True])
def test_a_tensor_that_is_zero_leaves_slopes_finite(by_tensor):
    shared = {"zero": torch.zeros(3), "other": torch.randn(3, generator=generator("shared"))}
    found = {name: torch.ones(3, requires_grad=True) for name in shared}
    relative(found, shared, by_tensor=by_tensor).backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in found.values())
