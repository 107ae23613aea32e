"""The closed form: exact where the algebra says so, and honest where not."""

from dataclasses import replace

import pytest
import torch

from privbench.attack import check
from privbench.attacks._update.system import PROJECTION_BIAS, read, relative
from privbench.attacks.pe_ls import PositionLeastSquares, _batch
from privbench.errors import BadUpdate, NotGranted
from privbench.patches import cut, join
from privbench.seeds import generator
from privbench.threat import Update
from privbench.vit import ViT
from tests.conftest import psnr, quiet


def solve(seen):
    return PositionLeastSquares().reconstruct(seen, generator("test"), quiet)


@pytest.mark.parametrize("name", ["vit_vanilla", "vit_shuffle"])
def test_one_picture_comes_back_exactly(victim, shared, name):
    seen, secret = shared(victim(name, depth=6))
    answer = solve(seen)
    assert psnr(answer.images, secret.fed) > 75
    assert answer.report["rank"] == 64
    assert answer.report["residual"] < 1e-5
    assert answer.report["bias_mismatch"] < 1e-5
    assert not answer.warnings


def test_what_rounding_covers_is_told(victim, shared):
    """Without the first block's LayerNorm and residuals, tokens differ by 1e-8 of their size."""
    seen, secret = shared(victim("vit_vanilla", first_block="april"))
    answer = solve(seen)
    assert psnr(answer.images, secret.fed) < 30
    assert "float32 rounding covers part of the picture" in " ".join(answer.warnings)


def test_double_precision_leaves_no_error(victim, pictures):
    from privbench.running.client import share
    from privbench.threat import ThreatModel

    subject = victim("vit_vanilla")
    subject.model.vit.double()
    images, labels = pictures(1)
    images = images.double()
    seen, _ = share(subject, images, labels, ThreatModel(), (0,))
    assert (solve(seen).images - images).abs().max() < 1e-6


@pytest.mark.parametrize("defense", ["clip"])
def test_a_common_factor_does_not_hide_the_picture(victim, shared, defense):
    seen, secret = shared(victim("vit_vanilla", defense))
    assert psnr(solve(seen).images, secret.fed) > 75


def changed(seen, **tensors):
    return replace(seen, update=Update(dict(seen.update.tensors) | tensors))


def minimum_norm(seen):
    token = seen.update.tensors[ViT.POSITIONS][0, seen.model.vit.prefix :].double()
    embedding = seen.update.tensors[ViT.PROJECTION].flatten(1).double()
    inverse = torch.linalg.pinv(token.T, rtol=1e-6)
    return painted(seen, inverse @ embedding)


def painted(seen, patches):
    vit = seen.model.vit
    return (join(patches[None], vit.patch) * vit.std + vit.mean).clamp(0, 1)


@pytest.mark.parametrize(
    ("defense", "least", "said"),
    [("round", 28, "rounded to bfloat16"), ("noise", 9, "noisy"), ("prune", 8, "pruned")],
)
def test_low_precision_is_named_and_met_by_smoothness(victim, shared, defense, least, said):
    seen, secret = shared(victim("vit_vanilla", defense, depth=6))
    answer = solve(seen)
    assert psnr(answer.images, secret.fed) > psnr(minimum_norm(seen), secret.fed) + 0.5
    assert psnr(answer.images, secret.fed) > least
    assert [said in warning for warning in answer.warnings] == [True]
    plain, _ = shared(victim("vit_vanilla", depth=6))
    assert psnr(answer.images, secret.fed) < psnr(solve(plain).images, secret.fed) - 20


def test_a_projection_clipped_apart_is_scaled_back(victim, shared):
    seen, secret = shared(victim("vit_vanilla"))
    tensors = seen.update.tensors
    names = (ViT.PROJECTION, PROJECTION_BIAS)
    answer = solve(changed(seen, **{name: 0.3 * tensors[name] for name in names}))
    assert psnr(answer.images, secret.fed) > 75
    assert ["clipping by layer" in warning for warning in answer.warnings] == [True]


@pytest.mark.parametrize("name", [ViT.POSITIONS, ViT.PROJECTION, PROJECTION_BIAS])
def test_nan_is_a_sentence(victim, shared, name):
    seen, _ = shared(victim("vit_vanilla"))
    broken = seen.update.tensors[name].clone()
    broken.view(-1)[7] = torch.nan
    with pytest.raises(BadUpdate, match=name):
        solve(changed(seen, **{name: broken}))


def test_nothing_shared_is_a_sentence(victim, shared):
    seen, _ = shared(victim("vit_vanilla"))
    empty = {name: torch.zeros_like(t) for name, t in seen.update.tensors.items()}
    with pytest.raises(BadUpdate, match="zero everywhere"):
        solve(changed(seen, **empty))
    without = {n: t for n, t in seen.update.tensors.items() if n != ViT.POSITIONS}
    with pytest.raises(NotGranted, match="pos_embed"):
        solve(replace(seen, update=Update(without)))


def test_a_batch_is_a_mixture_and_says_so(victim, shared):
    answer = solve(shared(victim("vit_vanilla"), batch=2)[0])
    assert torch.equal(answer.images[0], answer.images[1])
    assert any("batch of 2" in warning for warning in answer.warnings)


def test_a_batch_of_large_patches_is_exact_beside_the_differences(victim, shared):
    # 2 images of 16 patches, 192 values each: they differ in 16 dimensions, and agree in 176
    seen, secret = shared(victim("vit_vanilla", patch_size=8), batch=2)
    answer = solve(seen)
    assert answer.report["ambiguity"] == 2 * 16 * 16
    vit = seen.model.vit
    first, second = cut((secret.fed.double() - vit.mean) / vit.std, 8)
    basis = torch.linalg.svd(first - second).Vh[16:].T
    known, free, _ = _batch(*_parts(seen))
    assert free == 16
    for truth in (first, second):
        assert relative((known - truth) @ basis, truth @ basis) < 1e-2
    assert psnr(answer.images, secret.fed) > psnr(minimum_norm(seen), secret.fed)


def _parts(seen):
    system = read(seen.update.tensors, seen.model.vit.prefix)
    vh = torch.linalg.svd(system.token).Vh
    mixture = torch.linalg.lstsq(system.token.T, system.embedding, driver="gelsd").solution
    return system, mixture, vh[16:].T, 2, 8


def test_a_narrow_model_is_completed_and_says_so(victim, shared):
    seen, secret = shared(victim("vit_vanilla", embed_dim=60))
    answer = solve(seen)
    assert answer.report["rank"] == 59
    assert answer.report["ambiguity"] == 5 * 48
    assert any("64 patches exceed width - 1 = 59" in warning for warning in answer.warnings)
    assert psnr(answer.images, secret.fed) > psnr(minimum_norm(seen), secret.fed) + 2


def test_a_mask_is_named_as_the_reason(victim, shared):
    seen, secret = shared(victim("vit_mjp"))
    answer = solve(seen)
    assert answer.report["rank"] == 64 - int(secret.draw.mask.sum())
    assert any("mask" in warning for warning in answer.warnings)


@pytest.mark.parametrize(
    ("name", "defense"), [("vit_nope", "none"), ("vit_sincos", "none"), ("vit_vanilla", "withhold")]
)
def test_refused_without_the_position_gradient(victim, name, defense):
    one = victim(name, defense)
    with pytest.raises(NotGranted, match=r"reads the gradient of backbone\.pos_embed"):
        check(PositionLeastSquares(), "pe_ls", frozenset(), one.shared(), one.model.vit)
