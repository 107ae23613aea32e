"""What a defense says that it provably does to an update is what it does."""

import pytest
import torch

from privbench.component import make, names
from privbench.defense import Defense
from privbench.seeds import generator
from privbench.stack import Stack
from privbench.threat import Update

EVERY = [(name, {}) for name in names("defenses")]
SETTINGS = [
    ("clip", {"norm": 1e-3}),
    ("clip", {"norm": 1e-3, "of": "tensor"}),
    ("prune", {"ratio": 0.3}),
    ("prune", {"ratio": 0.99}),
    ("round", {"format": "fp16", "loss_scale": 1.0}),
    ("noise", {"sigma": 0.0}),
]
FAINT = 1e-7
"""Below this an entry that became zero was rounded: it says that the gradient was small."""
LEVELS = {"quantize"}
"""Their zeros are levels like others, and say that the gradient was about as small."""


def row(*defenses):
    parts = tuple(make(Defense, name, settings) for name, settings in defenses)
    return parts[0] if len(parts) == 1 else Stack(parts=parts)


def gradient():
    rng = generator("gradient")
    shapes = {"a": (9, 7), "b": (31,), "c": (1, 4, 6), "d": (1,)}
    return {name: 0.1 * torch.randn(shape, generator=rng) for name, shape in shapes.items()}


def protected(defense, tensors):
    return defense.protect(Update(tensors, frozenset()), generator("noise")).tensors


@pytest.mark.parametrize(
    "defenses",
    [
        *([one] for one in (*EVERY, *SETTINGS)),
        [("clip", {"norm": 1e-3}), ("prune", {})],
        [("prune", {"ratio": 0.5}), ("clip", {"norm": 1e-3, "of": "tensor"})],
        [("prune", {"ratio": 0.5}), ("prune", {"ratio": 0.9})],
        [("prune", {"ratio": 0.9}), ("prune", {"ratio": 0.5})],
    ],
)
def test_each_entry_that_it_zeroes_is_no_measurement_and_each_other_one_is(defenses):
    defense, before = row(*defenses), gradient()
    after = protected(defense, before)
    kept = defense.measured(after)
    for name, tensor in after.items():
        zeroed = (tensor == 0) & (before[name].abs() > FAINT)
        if name in kept:
            assert torch.equal(kept[name], ~zeroed)
        else:
            assert not zeroed.any() or {one for one, _ in defenses} & LEVELS


@pytest.mark.parametrize("defenses", [[one] for one in (*EVERY, *SETTINGS)])
def test_factors_of_tensors_are_one_unless_it_says_otherwise(defenses):
    defense, before = row(*defenses), gradient()
    after = protected(defense, before)
    kept = defense.measured(after)
    factors = []
    for name, tensor in after.items():
        whole = torch.ones_like(tensor, dtype=torch.bool)
        factors.append(tensor[kept.get(name, whole)] / before[name][kept.get(name, whole)])
    if not (factors := [one for one in factors if one.numel()]):
        return  # it cut off every entry
    exact = all(float(one.std(correction=0) / one.mean().abs()) < 1e-5 for one in factors)
    means = torch.stack([one.mean() for one in factors])
    if exact:
        assert (means > 0).all()
        assert defense.by_tensor is (float(means.std() / means.mean()) > 1e-5)


@pytest.mark.parametrize("other", [("clip", {"norm": 1e-3}), ("noise", {"sigma": 1e-3})])
@pytest.mark.parametrize("first", [True, False])
def test_a_row_says_what_any_of_its_parts_says(first, other):
    pruned, before = ("prune", {"ratio": 0.8}), gradient()
    defense = row(*((pruned, other) if first else (other, pruned)))
    kept = defense.measured(protected(defense, before))
    for name in ("a", "b", "c"):
        assert int(kept[name].sum()) == round(0.2 * before[name].numel())
    assert not defense.by_tensor
    assert row(other, ("clip", {"of": "tensor"}), pruned).by_tensor


def test_where_fewer_entries_are_left_than_it_keeps_zeros_were_the_clients():
    defense = row(("prune", {"ratio": 0.5}))
    sparse = {"a": torch.tensor([0.0, 3.0, 0.0, 0.0, 0.0, 0.0])}
    assert defense.measured(protected(defense, sparse)) == {}
