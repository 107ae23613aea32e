"""Labels read off an update."""

from dataclasses import replace

import pytest
import torch
from torch import Generator
from torch.nn.functional import cross_entropy

from privbench.attacks._update.labels import (
    counts,
    greedy,
    opposed,
    smallest_entries,
    smallest_sum,
    soft,
)
from privbench.attacks._update.reading import labels, mask
from privbench.errors import NotGranted
from privbench.running.client import share
from privbench.threat import Knowledge, ThreatModel, Update
from privbench.vit import ViT


@pytest.mark.parametrize("label", range(10))
def test_one_label_is_exact(victim, pictures, label):
    images, _ = pictures(1)
    seen, _ = share(victim("vit_vanilla"), images, torch.tensor([label]), ThreatModel(), (0,))
    assert labels(seen).tolist() == [label]
    # and without a bias, from the rows of the head
    tensors = {n: t for n, t in seen.update.tensors.items() if n != ViT.HEAD_BIAS}
    assert labels(replace(seen, update=Update(tensors))).tolist() == [label]


def test_one_label_is_exact_where_its_own_bias_is_not_shared(victim, pictures):
    images, _ = pictures(1)
    subject = victim("vit_vanilla", "random_entries")
    for label in range(10):
        seen, _ = share(subject, images, torch.tensor([label]), ThreatModel(), (0,))
        assert labels(seen).tolist() == [label]


@pytest.mark.parametrize("chosen", [[0, 1, 2, 3], [5, 5, 5, 5], [7, 7, 2, 9]])
def test_a_batch_is_a_multiset(victim, pictures, chosen):
    images, _ = pictures(4)
    seen, _ = share(victim("vit_vanilla"), images, torch.tensor(chosen), ThreatModel(), (0,))
    assert sorted(labels(seen).tolist()) == sorted(chosen)


def test_granted_labels_are_used(victim, shared):
    seen, secret = shared(victim("vit_vanilla"), 3, knows=frozenset({Knowledge.LABELS}))
    assert torch.equal(labels(seen), secret.labels)


def test_nothing_to_read_is_a_clear_refusal(victim, shared):
    seen, _ = shared(victim("vit_vanilla"))
    with pytest.raises(NotGranted, match="neither granted nor readable"):
        labels(replace(seen, update=Update({})))


def test_the_mask_is_read_exactly_and_only_where_one_is_revealed(victim, shared):
    seen, secret = shared(victim("vit_mjp"), 2)
    found = mask(seen)
    assert found is not None
    assert torch.equal(found.mask, secret.draw.mask)
    assert mask(shared(victim("vit_shuffle"))[0]) is None
    assert mask(shared(victim("vit_mjp", "withhold"))[0]) is None


def head(classes=10, width=24, seed=0, signed=True, batch=1):
    """Weights, offset, features and labels of a last layer, in float64."""
    rng = Generator().manual_seed(seed)
    weights = 0.3 * torch.randn(classes, width, dtype=torch.float64, generator=rng)
    offset = torch.randn(classes, dtype=torch.float64, generator=rng)
    features = torch.randn(batch, width, dtype=torch.float64, generator=rng)
    return weights, offset, features if signed else features.abs()


def gradients(weights, offset, features, targets):
    """What the layer shares; targets are indices or shares."""
    weights, offset = weights.clone().requires_grad_(), offset.clone().requires_grad_()
    cross_entropy(features @ weights.T + offset, targets).backward()
    return weights.grad, offset.grad


@pytest.mark.parametrize("seed", range(5))
def test_a_soft_label_comes_back_exactly(seed):
    layer = head(seed=seed)
    mixed = torch.zeros(1, 10, dtype=torch.float64)
    mixed[0, 2], mixed[0, 7] = 0.3, 0.7
    for target in (mixed, 0.9 * mixed + 0.01):
        found = soft(*gradients(*layer, target), *layer[:2])
        torch.testing.assert_close(found, target[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("label", range(10))
def test_rules_for_one_image_agree_where_features_are_positive(label):
    layer = head(signed=False)
    rows, bias = gradients(*layer, torch.tensor([label]))
    assert smallest_sum(rows).tolist() == [label]
    assert smallest_entries(rows, 1).tolist() == [label]
    assert opposed(rows).tolist() == [label]
    assert greedy(bias, 1).tolist() == [label]
    assert counts(rows, bias, *layer[:2], 1).nonzero().tolist() == [[label]]


def test_rules_for_positive_features_fail_on_signed_ones():
    wrong = {"sum": 0, "entries": 0}
    for seed in range(40):
        layer = head(seed=seed)
        label = seed % 10
        rows, bias = gradients(*layer, torch.tensor([label]))
        wrong["sum"] += smallest_sum(rows).tolist() != [label]
        wrong["entries"] += smallest_entries(rows, 1).tolist() != [label]
        assert opposed(rows).tolist() == [label]
        assert greedy(bias, 1).tolist() == [label]
        assert counts(rows, bias, *layer[:2], 1).nonzero().tolist() == [[label]]
    assert wrong["sum"] > 10  # half of all features have a negative sum
    assert wrong["entries"] > 0


@pytest.mark.parametrize("chosen", [[3], [1, 1, 1, 1], [0, 4, 4, 9, 9, 9]])
def test_counts_are_exact_where_images_of_a_class_are_alike(chosen):
    weights, offset, one = head(width=24, batch=10)
    layer = weights, offset, one[chosen]
    found = counts(*gradients(*layer, torch.tensor(chosen)), weights, offset, len(chosen))
    if len(set(chosen)) == 1:
        assert found.tolist() == torch.tensor(chosen).bincount(minlength=10).tolist()
    assert found.sum() == len(chosen)
    assert (found >= 0).all()


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_counts_read_a_batch_of_an_untrained_victim(victim, shared, batch):
    seen, secret = shared(victim("vit_vanilla"), batch)
    head = seen.model.vit.backbone.head
    tensors = seen.update.tensors
    found = counts(
        tensors[ViT.HEAD], tensors[ViT.HEAD_BIAS], head.weight.detach(), head.bias.detach(), batch
    )
    assert torch.equal(found, secret.labels.bincount(minlength=10))
