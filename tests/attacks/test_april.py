"""APRIL's closed form: close where its equation holds, refused where it doesn't."""

from dataclasses import replace

import pytest
import torch

from privbench.attack import Attack
from privbench.attacks.april import AttentionClosedForm
from privbench.component import make
from privbench.errors import BadUpdate, NotGranted, UnsupportedModel
from privbench.running.client import share
from privbench.running.plan import plan
from privbench.running.suite import Suite
from privbench.seeds import generator
from privbench.threat import ThreatModel, Update
from privbench.vit import ViT
from tests.conftest import CPU, psnr, quiet


def solve(seen):
    return AttentionClosedForm().reconstruct(seen, generator("test"), quiet)


@pytest.mark.parametrize("depth", [2, 6])
def test_the_modified_first_block_gives_the_picture_away(victim, shared, depth):
    subject = victim("vit_vanilla", depth=depth, first_block="april", position_std=1.0)
    seen, secret = shared(subject)
    answer = solve(seen)
    assert psnr(answer.images, secret.fed) > 60
    assert answer.report["rank"] == 64
    assert answer.report["residual"] < 1e-4
    assert not answer.warnings


def test_even_attention_leaves_directions_open_and_says_so(victim, shared):
    # small embeddings: all tokens attend alike, and most of the token gradient is noise
    seen, secret = shared(victim("vit_vanilla", first_block="april"))
    answer = solve(seen)
    rank = int(answer.report["rank"])
    assert rank < 64
    assert answer.warnings == (f"Rank {rank} of 64 patches: minimum-norm solution.",)
    assert psnr(answer.images, secret.fed) > 28


def test_double_precision_leaves_no_error(victim, pictures):
    subject = victim("vit_vanilla", first_block="april")
    subject.model.vit.double()
    images, labels = pictures(1)
    seen, _ = share(subject, images.double(), labels, ThreatModel(), (0,))
    answer = AttentionClosedForm(threshold=1e-13).reconstruct(seen, generator("test"), quiet)
    assert (answer.images - images).abs().max() < 1e-4


def test_a_stock_vit_is_refused_with_the_reason(victim, shared):
    seen, _ = shared(victim("vit_vanilla"))
    with pytest.raises(UnsupportedModel, match="without LayerNorm and residuals"):
        solve(seen)
    suite = Suite.build({"attack": "april", "model": "vit_vanilla", "weights": "init"}, None)
    with pytest.raises(NotGranted, match=r"model\.first_block=april"):
        plan(suite, CPU)


def test_pe_ls_needs_no_such_change_but_bears_it(victim, shared):
    seen, secret = shared(victim("vit_vanilla", first_block="april", position_std=1.0))
    answer = make(Attack, "pe_ls", {}).reconstruct(seen, generator("a"), quiet)
    assert psnr(answer.images, secret.fed) > 60


def test_a_narrow_embedding_costs_pixels_and_says_so(victim, shared):
    small = victim("vit_vanilla", first_block="april", patch_size=8, position_std=1.0)
    seen, secret = shared(small)
    answer = solve(seen)
    assert any("Width 128 is below the 192" in warning for warning in answer.warnings)
    assert psnr(answer.images, secret.fed) < 45


def test_a_batch_is_a_mixture_and_says_so(victim, shared):
    seen, _ = shared(victim("vit_vanilla", first_block="april"), 2)
    assert any("batch of 2" in warning for warning in solve(seen).warnings)


def test_a_noisy_update_breaks_the_equation_and_it_says_so(victim, shared):
    seen, _ = shared(victim("vit_vanilla", "noise", first_block="april", position_std=1.0))
    assert any("The equation fails by" in warning for warning in solve(seen).warnings)


def test_an_empty_gradient_is_a_sentence(victim, shared):
    seen, _ = shared(victim("vit_vanilla", first_block="april"))
    empty = {name: torch.zeros_like(tensor) for name, tensor in seen.update.tensors.items()}
    with pytest.raises(BadUpdate, match="holds nothing"):
        solve(replace(seen, update=Update(empty)))


def test_only_the_first_block_is_changed(victim):
    plain, changed = victim("vit_vanilla"), victim("vit_vanilla", first_block="april")
    names = {n for n, _ in plain.model.vit.named_parameters()}
    missing = names - {n for n, _ in changed.model.vit.named_parameters()}
    assert missing == {f"{ViT.BACKBONE}blocks.0.norm1.{end}" for end in ("weight", "bias")}
    assert changed.settings["first_block"] == "april"
