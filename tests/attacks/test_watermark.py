"""The closed form that needs no position gradient: exact where embeddings are independent."""

from dataclasses import replace

import pytest
import torch

from privbench.attacks._linear.watermark import read
from privbench.attacks.pe_watermark import PositionWatermark, _solve
from privbench.errors import BadUpdate, NotGranted
from privbench.patches import cut
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import ThreatModel, Update
from privbench.vit import ViT
from tests.conftest import psnr, quiet

LARGE = {"patch_size": 8, "embed_dim": 192}
"""16 patches of 192 values: what a wide model leaves open is nothing."""


def solve(seen):
    return PositionWatermark().reconstruct(seen, generator("test"), quiet)


@pytest.fixture
def double(victim, pictures):
    """An update in float64."""

    def build(name, batch=1, defense="none", seed=0, **settings):
        subject = victim(name, defense, **settings)
        subject.model.vit.double()
        images, labels = pictures(batch)
        return share(subject, images.double(), labels, ThreatModel(batch_size=batch), (seed,))

    return build


@pytest.mark.parametrize("settings", [LARGE, {"depth": 6}], ids=["few patches", "small patches"])
def test_exact_from_float64_without_the_position_gradient(double, settings):
    seen, secret = double("vit_vanilla", defense="withhold", **settings)
    assert ViT.POSITIONS not in seen.update.tensors
    answer = solve(seen)
    assert psnr(answer.images, secret.fed) > 100
    assert answer.report["nullity"] == 0
    assert not answer.warnings


def test_a_layer_norm_with_weights_is_undone(double, victim):
    seen, secret = double("vit_vanilla", **LARGE)
    norm = seen.model.vit.backbone.blocks[0].norm1
    rng = generator("norm")
    norm.weight.data += 0.5 * torch.rand(192, generator=rng).double()
    norm.bias.data += 0.1 * torch.randn(192, generator=rng).double()
    gradient = seen.model.gradient(secret.fed, secret.labels, differentiable=False)
    answer = solve(replace(seen, update=Update(gradient)))
    assert psnr(answer.images, secret.fed) > 100
    assert answer.report["equations"] == 192 - (17 + 2)


def test_float32_is_enough_for_few_patches(victim, shared):
    seen, secret = shared(victim("vit_vanilla", "withhold", **LARGE))
    assert psnr(solve(seen).images, secret.fed) > 50


@pytest.mark.parametrize(("name", "nullity"), [("vit_sincos", 16 - 7), ("vit_nope", 16 - 1)])
def test_fixed_tables_leave_most_open_and_it_says_so(double, name, nullity):
    # a 4 x 4 sine-cosine table has rank 2 * 4 - 1
    seen, secret = double(name, **LARGE)
    answer = solve(seen)
    assert answer.report["nullity"] == nullity
    assert any("dependent" in warning for warning in answer.warnings)
    assert psnr(answer.images, secret.fed) < 20


def test_a_batch_has_the_ambiguity_of_its_size(double):
    seen, _ = double("vit_vanilla", batch=2, **LARGE)
    answer = solve(seen)
    assert answer.report["nullity"] == 16
    assert any("batch of 2" in warning for warning in answer.warnings)


@pytest.mark.parametrize("defense", ["none", "withhold"])
def test_a_mask_is_found_without_the_position_gradient(double, defense):
    seen, secret = double("vit_mjp", defense=defense, ratio=0.5, sampler="uniform", **LARGE)
    answer = solve(seen)
    masked = int(secret.draw.mask.sum())
    assert masked == 8
    assert answer.report["nullity"] == masked - 1
    assert answer.report["residual"] < 1e-6
    # beside the span of the masked patches' differences every patch is exact
    marks = read(seen.update.tensors, seen.model, 1)
    u, s, vh = torch.linalg.svd(marks.system, full_matrices=False)
    rank = 16 - (masked - 1)
    found, _ = _solve(marks, u[:, :rank], s[:rank], vh[:rank])
    vit = seen.model.vit
    truth = cut((secret.fed - vit.mean) / vit.std, 8)[0]
    apart = truth[secret.draw.mask[0]]
    beside = torch.linalg.svd(apart[1:] - apart[0]).Vh[masked - 1 :].T
    torch.testing.assert_close(found @ beside, truth @ beside, rtol=0, atol=1e-5)


def test_too_narrow_a_model_says_so(double):
    seen, _ = double("vit_vanilla", embed_dim=64)
    answer = solve(seen)
    assert any("wider model" in warning for warning in answer.warnings)


@pytest.mark.parametrize("name", [ViT.PROJECTION, "backbone.blocks.0.attn.qkv.weight"])
def test_broken_updates_are_sentences(victim, shared, name):
    seen, _ = shared(victim("vit_vanilla"))
    tensors = dict(seen.update.tensors)
    broken = tensors | {name: tensors[name] * torch.nan}
    with pytest.raises(BadUpdate, match="NaN"):
        solve(replace(seen, update=Update(broken)))
    with pytest.raises(BadUpdate, match="zero everywhere"):
        solve(replace(seen, update=Update(tensors | {name: 0 * tensors[name]})))
    del tensors[name]
    with pytest.raises(NotGranted, match="lacks the gradient"):
        solve(replace(seen, update=Update(tensors)))
