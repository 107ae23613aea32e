"""What defenses say that they provably do to an update is what they do."""

import pytest
import torch

from privbench.component import find, make, names
from privbench.defense import Defense
from privbench.stack import Stack
from privbench.threat import Update

NOISE = ("noise", {"sigma": 1e-3})
CASES = [
    *((name, {}) for name in names("defenses") if name != "noise"),
    ("clip", {"norm": 1e-3, "of": "tensor"}),
    ("clip", {"norm": 1e-3}),
    ("prune", {"ratio": 0.5}),
    ("prune", {"ratio": 0.999}),
]


def update(*made):
    """Tensors of sizes far apart."""
    rng = torch.Generator().manual_seed(0)
    shapes = {"a": (3, 4, 5), "b": (40,), "c": (1,), "d": ()}
    drawn = {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}
    return {name: t * 10.0**size for size, (name, t) in enumerate(drawn.items())} | dict(made)


def protect(defense, tensors):
    return defense.protect(Update(tensors), torch.Generator().manual_seed(1)).tensors


def kept(defense, tensors):
    """Which entries measure, of every tensor."""
    found = defense.measured(tensors)
    return {n: found.get(n, torch.ones_like(t, dtype=torch.bool)) for n, t in tensors.items()}


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_what_is_measured_is_what_was_there_but_for_a_positive_factor(name, settings):
    """One of the whole, or one of each tensor where the defense says so; rounding aside."""
    defense, before = make(Defense, name, settings), update()
    after = protect(defense, before)
    masks = kept(defense, after)
    factors = {n: after[n][masks[n]] / before[n][masks[n]] for n in before}
    assert all(len(one) for one in factors.values())
    groups = factors.values() if defense.by_tensor else [torch.cat(list(factors.values()))]
    for group in groups:
        assert group.min() > 0
        assert group.max() <= (1.01 if name == "round" else 1.0001) * group.min()
    assert all((after[n][~masks[n]] == 0).all() for n in after)


def test_each_tensor_is_clipped_by_itself():
    before = update(("tiny", torch.full((5,), 1e-30)), ("huge", torch.full((5,), 1e30)))
    after = protect(make(Defense, "clip", {"norm": 0.5, "of": "tensor"}), before)
    for name, tensor in before.items():
        size = float(tensor.double().norm())
        assert float(after[name].double().norm()) == pytest.approx(min(size, 0.5), rel=1e-5)
        assert torch.allclose(after[name] / min(1.0, 0.5 / size), tensor, rtol=1e-5)


@pytest.mark.parametrize("after", [[], [("clip", {})], [("clip", {"of": "tensor"})], [NOISE]])
@pytest.mark.parametrize("before", [[], [("clip", {})], [("prune", {"ratio": 0.5})]])
def test_what_was_pruned_is_known_among_other_defenses(before, after):
    tensors, ratio = update(), 0.8
    row = [*before, ("prune", {"ratio": ratio}), *after]
    stack = Stack(parts=tuple(make(Defense, name, settings) for name, settings in row))
    masks = kept(stack, protect(stack, tensors))
    for name, tensor in tensors.items():
        count = max(1, round(tensor.numel() * (1 - ratio)))
        largest = torch.zeros(tensor.numel(), dtype=torch.bool)
        largest[tensor.abs().flatten().topk(count).indices] = True
        assert torch.equal(masks[name].flatten(), largest), name
    assert stack.by_tensor is any(settings.get("of") == "tensor" for _, settings in row)


def test_zeros_that_the_client_had_are_measured():
    """Fewer entries than are kept: pruning took none."""
    prune = make(Defense, "prune", {"ratio": 0.5})
    sparse = torch.zeros(40)
    sparse[:5] = torch.arange(1.0, 6.0)
    tensors = {"sparse": sparse, "zero": torch.zeros(8)}
    assert all(one.all() for one in kept(prune, protect(prune, tensors)).values())


def test_every_defense_on_the_shelf_is_among_the_cases_but_noise():
    """Noise makes every entry its own, and none of them up."""
    assert {name for name, _ in CASES} == set(names("defenses")) - {"noise"}
    noise = find(Defense, "noise")
    assert noise.by_tensor is Defense.by_tensor
    assert noise.measured is Defense.measured
