"""Gradient matching and the verdict: an update's size is no evidence, nor is a pruned entry."""

from dataclasses import replace

import pytest
import torch

from privbench.attack import Attack
from privbench.attacks._auto.verdict import Verdict
from privbench.attacks._matching.distances import (
    by_token,
    compare_all,
    cosine,
    direction_of_positions,
    norms,
    relative,
    squared,
    tag,
)
from privbench.attacks._matching.rows import by_direction, squares, with_absolute
from privbench.attacks._update.reading import from_pictures
from privbench.component import find, make
from privbench.defense import Defense
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import Knowledge, ThreatModel, Update
from privbench.victims.load import load
from privbench.vit import ViT
from tests.conftest import CPU, cheap, quiet

SMALL = {"depth": 1, "embed_dim": 32, "num_heads": 2}
PUBLISHED = [relative, squared, tag, direction_of_positions, norms]
MEASURES = [squares, with_absolute, by_direction]


def observed(pictures, *defenses, model="vit_vanilla", **threat):
    parts = tuple(make(Defense, name, settings) for name, settings in defenses)
    victim = load(model, SMALL, parts or (make(Defense, "none", {}),), "init", CPU)
    images, labels = pictures(1)
    known = ThreatModel(knows=frozenset(Knowledge), **threat)
    return share(victim, images, labels, known, (0,))


def multiplied(seen, factors):
    """The same observation with each tensor, or all, multiplied."""
    tensors = seen.update.tensors
    if isinstance(factors, float):
        factors = dict.fromkeys(tensors, factors)
    scaled = {name: (t.double() * factors[name]).float() for name, t in tensors.items()}
    return replace(seen, update=Update(scaled, seen.update.withheld))


def apart(seen):
    """Factors of tensors far from each other."""
    count = len(seen.update.tensors)
    spread = 10 ** (6 * torch.rand(count, generator=generator("factors"), dtype=torch.float64) - 3)
    return dict(zip(seen.update.tensors, spread.tolist(), strict=True))


def answer(name, seen):
    attack = make(Attack, name, cheap(find(Attack, name).setting_names()))
    return attack.reconstruct(seen, generator("attack"), quiet)


def comparisons(seen):
    shared = from_pictures(seen)
    yield from (compare_all(seen, shared, one) for one in PUBLISHED)
    yield compare_all(seen, shared, cosine, angular=True)
    yield from (by_token(seen, shared, one) for one in MEASURES)
    yield by_token(seen, shared, also=(ViT.HEAD,), beside=tuple(shared))


def values(seen, found):
    return [float(one.distance(found, one.facts)) for one in comparisons(seen)]


def some_gradient(seen, seed=0):
    """The gradient of noise."""
    images = torch.rand(seen.shape, generator=generator("images", seed))
    return seen.model.gradient(images, torch.tensor([3]), differentiable=False)


@pytest.mark.parametrize("name", ["gradinv", "gradinv_published", "idlg"])
def test_an_answer_is_the_same_at_sizes_whose_squares_float32_does_not_hold(name, pictures):
    seen, _ = observed(pictures)
    plain = answer(name, seen)
    for factor in (1e-25, 1e-12, 1e12, 1e25):
        scaled = answer(name, multiplied(seen, factor))
        assert torch.allclose(plain.images, scaled.images, atol=2e-3), factor
        assert scaled.objective == pytest.approx(plain.objective, rel=1e-3), factor


@pytest.mark.parametrize("by", ["update", "tensor"])
def test_distances_know_no_size_of_either_gradient(by, pictures):
    seen, _ = observed(pictures, ("clip", {"of": by}))
    found = some_gradient(seen)
    factors = apart(seen) if by == "tensor" else dict.fromkeys(found, 1e-9)
    larger = {name: tensor * factors[name] for name, tensor in found.items()}
    wanted = values(seen, found)
    assert min(wanted) > 1e-3
    assert values(multiplied(seen, factors), found) == pytest.approx(wanted, rel=1e-3)
    assert values(seen, larger) == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("after", [[], [("clip", {})], [("noise", {"sigma": 1e-3})]])
def test_entries_that_were_pruned_have_no_say(after, pictures):
    seen, _ = observed(pictures, ("prune", {"ratio": 0.7}), *after)
    kept = seen.model.defense.measured(seen.update.tensors)
    assert 0.25 < sum(float(one.float().mean()) for one in kept.values()) / len(kept) < 0.5
    found, junk = (some_gradient(seen, seed) for seed in (0, 1))
    other = {
        n: torch.where(kept[n], t, 100 * junk[n]) if n in kept else t for n, t in found.items()
    }
    wanted = values(seen, found)
    assert values(seen, other) == pytest.approx(wanted, rel=1e-4)
    dirty = dict(seen.update.tensors)
    for name, mask in kept.items():
        least = dirty[name][mask].abs().min()
        dirty[name] = torch.where(mask, dirty[name], 1e-3 * least * junk[name].sign())
    soiled = replace(seen, update=Update(dirty, seen.update.withheld))
    assert values(soiled, found) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    "defenses",
    [
        [("clip", {})],
        [("clip", {"of": "tensor", "norm": 1e-3})],
        [("prune", {"ratio": 0.9})],
        [("clip", {}), ("prune", {})],
        [("prune", {"ratio": 0.5}), ("clip", {"of": "tensor", "norm": 1e-3})],
    ],
)
def test_the_verdict_on_the_truth_is_none_apart_and_anything_else_is_far(defenses, pictures):
    seen, secret = observed(pictures, *defenses)
    for one in (seen, multiplied(seen, 1e-9), multiplied(seen, 1e9)):
        verdict = Verdict(one, generator("verdict"))
        truth, wrong = (
            verdict.distance(images, secret.labels, None).apart
            for images in (secret.fed, secret.fed.flip(3))
        )
        assert truth < 1e-6
        assert wrong > 5e-5
