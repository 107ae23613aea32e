"""Labels read off an update."""

from dataclasses import replace

import pytest
import torch

from privbench.attacks._reading import labels, mask
from privbench.client import share
from privbench.errors import NotGranted
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
