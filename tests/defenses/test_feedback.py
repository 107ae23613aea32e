"""Error feedback: worked arrays, and that rounds give away what each of them leaves out."""

from dataclasses import replace

import pytest
import torch

from privbench.attack import Attack
from privbench.attacks._auto.verdict import Verdict
from privbench.attacks._update.rounds import joined
from privbench.attacks._update.stated import of_defense
from privbench.component import make
from privbench.defense import Defense
from privbench.defenses.dgp import DualPruning
from privbench.defenses.prune import Prune
from privbench.errors import BadSetting
from privbench.observation import PublicModel
from privbench.running.client import share
from privbench.seeds import generator
from privbench.stack import Stack
from privbench.threat import ThreatModel, Update
from privbench.training import session
from privbench.victims.load import load
from privbench.vit import ViT
from tests.conftest import CPU, psnr, quiet


def rounds(defense, tensor, count):
    updates = [Update({"a": tensor}, frozenset({"x"}))] * count
    found = defense.protect_rounds(updates, [generator(n) for n in range(count)])
    assert all(one.withheld == {"x"} for one in found)
    return found


def shown(updates):
    return [one.tensors["a"].tolist() for one in updates]


def test_a_worked_array():
    """One of three entries is shared each time; what is left out grows by itself in each round.

    (5, 3, -2), then (5, 6, -4), (10, 3, -6), and (5, 6, -8).
    """
    found = rounds(Prune(ratio=2 / 3, feedback=True), torch.tensor([5.0, 3.0, -2.0]), 4)
    assert shown(found) == [[5, 0, 0], [0, 6, 0], [10, 0, 0], [0, 0, -8]]


def test_joined_rounds_are_the_gradient_of_every_entry_that_was_ever_shared():
    tensor = torch.tensor([5.0, 3.0, -2.0])
    defense = Prune(ratio=2 / 3, feedback=True)
    for count, wanted in ((1, [5, 0, 0]), (2, [5, 3, 0]), (3, [5, 3, 0]), (4, [5, 3, -2])):
        (one,) = defense.joined(rounds(defense, tensor, count))
        assert one.tensors["a"].tolist() == wanted
        assert one.withheld == {"x"}
        rest = {"b": torch.tensor([0.0, 1.0])}
        kept = defense.measured({**one.tensors, **rest}).get("a", torch.ones(3, dtype=torch.bool))
        assert kept.tolist() == [bool(value) for value in wanted]


def test_noise_after_it_leaves_the_largest_as_kept():
    defense = Prune(ratio=0.5, feedback=True)
    noisy = {"a": torch.tensor([5.0, 0.1, -3.0, 0.2])}
    assert defense.measured(noisy)["a"].tolist() == [True, False, True, False]


@pytest.mark.parametrize("defense", [Prune(feedback=True), DualPruning(feedback=True)])
def test_joined_rounds_of_a_large_tensor_are_exact_where_they_show_anything(defense):
    tensor = torch.randn(2000, generator=generator("large"))
    shares = []
    for count in (1, 4, 10):
        (one,) = defense.joined(rounds(defense, tensor, count))
        found = one.tensors["a"]
        kept = defense.measured(one.tensors)["a"]
        assert torch.equal(kept, found != 0)
        assert torch.allclose(found[kept], tensor[kept], rtol=1e-5)
        shares.append(float(kept.double().mean()))
    assert shares[0] < shares[1] < shares[2]
    assert shares[2] > 2 * shares[0]


def test_dual_pruning_never_shares_its_largest_entries():
    """They only grow by being left out: the first three of twenty stay the largest for ever."""
    tensor = torch.linspace(20, 1, 20)
    defense = DualPruning(largest=0.15, smallest=0.5, feedback=True)
    (one,) = defense.joined(rounds(defense, tensor, 50))
    assert not one.tensors["a"][:3].any()
    assert one.tensors["a"][3:].all()


@pytest.mark.parametrize("name", ["prune", "dgp"])
def test_without_feedback_each_round_is_as_the_first(name):
    defense = make(Defense, name, {})
    tensor = torch.randn(100, generator=generator("plain"))
    found = rounds(defense, tensor, 3)
    assert shown(found) == shown([defense.protect(Update({"a": tensor}), generator())]) * 3
    assert defense.joined(found) == found
    assert not defense.feeds_back


def test_in_a_row_each_part_feeds_back_what_it_left_out_itself():
    """Clipped to length one first: what is left out is of the clipped gradient."""
    clip, prune = make(Defense, "clip", {"norm": 1.0}), Prune(ratio=0.5, feedback=True)
    row, tensor = Stack(parts=(clip, prune)), torch.tensor([4.0, 3.0])
    assert row.feeds_back
    found = rounds(row, tensor, 2)
    assert torch.tensor(shown(found)).flatten().tolist() == pytest.approx([0.8, 0, 0, 1.2])
    (one,) = row.joined(found)
    assert one.tensors["a"].tolist() == pytest.approx([0.8, 0.6])


def test_clients_keep_what_they_left_out_each_for_itself(victim, pictures):
    subject = victim("vit_vanilla", embed_dim=16, num_heads=2)
    defense = Prune(feedback=True)
    subject = replace(subject, model=PublicModel(subject.model.vit, defense))
    images, labels = pictures(2)
    both, _ = share(subject, images, labels, ThreatModel(clients=2, rounds=3), (0,))
    alone = [
        share(subject, images[n : n + 1], labels[n : n + 1], ThreatModel(rounds=3), (0,))[0]
        for n in range(2)
    ]
    for number, mean in enumerate(both.later):
        for name, tensor in mean.tensors.items():
            each = [one.later[number].tensors[name] for one in alone]
            assert torch.allclose(tensor, (each[0] + each[1]) / 2, atol=1e-9)


def test_a_training_refuses_what_it_would_take_for_a_first_update():
    subject = load("vit_vanilla", {"depth": 1}, (Prune(feedback=True),), "init", CPU)
    with pytest.raises(BadSetting, match="Train it without feedback"):
        session._check_defense(subject, 1)


def test_rounds_give_a_pruned_picture_back(shared):
    """A trained victim, nine tenths pruned: noise after one update, the picture after ten."""
    subject = load("vit_vanilla", {}, (Prune(feedback=True),), "trained", CPU)
    found = []
    for count in (1, 10):
        seen, secret = shared(subject, rounds=count)
        answer = make(Attack, "auto", {"tier": "smoke"}).reconstruct(seen, generator(), quiet)
        found.append(psnr(answer.images, secret.images))
    assert found[1] > found[0] + 5


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("noise", {"sigma": 1.0}),
        ("noise", {"sigma": 1e-3, "relative": False}),
        ("dp_sgd", {"noise_multiplier": 1e-5, "norm": 100.0}),
    ],
)
def test_noise_is_less_in_the_mean_of_rounds_as_it_is_stated(shared, name, settings):
    small = {"depth": 1, "embed_dim": 64, "num_heads": 2}
    bare = load("vit_vanilla", small, (), "init", CPU)
    subject = load("vit_vanilla", small, (make(Defense, name, settings),), "init", CPU)
    plain, _ = shared(bare)
    seen, secret = shared(subject, rounds=8)
    one = joined(seen)
    assert one.later == ()
    for key in (ViT.POSITIONS, "backbone.blocks.0.mlp.fc1.weight"):
        off = (one.update.tensors[key] - plain.update.tensors[key]).double()
        stated = of_defense(one)[key].square().mean().sqrt()
        assert off.square().mean().sqrt() == pytest.approx(float(stated), rel=0.1), key
        assert stated < 0.5 * of_defense(seen)[key].square().mean().sqrt()
    judged = [
        Verdict(each, generator("verdict")).distance(secret.images, secret.labels)
        for each in (seen, one)
    ]
    assert judged[1].at_floor
    assert judged[1].floor < 0.5 * judged[0].floor


def test_rounds_that_say_the_same_stay_as_they_are(shared):
    subject = load("vit_vanilla", {"depth": 1}, (make(Defense, "round", {}),), "init", CPU)
    seen, _ = shared(subject, rounds=3)
    assert len(joined(seen).later) == 2
