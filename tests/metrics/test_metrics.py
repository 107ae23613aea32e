"""Metrics agree with their references and judge in the direction that they declare."""

import hashlib
import re
import socket
import warnings
from importlib.resources import files

import lpips
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d, interpolate

from privbench.component import find, make, names
from privbench.dataset import Dataset
from privbench.metric import Metric, Target
from privbench.metrics.lpips import network

SHELF = names("metrics")


def metric(name: str) -> Metric:
    return make(Metric, name, {})


def noisy(images: Tensor, sigma: float, seed: int = 0) -> Tensor:
    noise = torch.randn(images.shape, generator=Generator().manual_seed(seed))
    return (images + sigma * noise).clamp(0, 1)


def smooth(batch: int, side: int = 32, seed: int = 0) -> Tensor:
    coarse = torch.rand(batch, 3, 8, 8, generator=Generator().manual_seed(seed))
    return interpolate(coarse, (side, side), mode="bilinear")


def target(images: Tensor, patch: int = 8) -> Target:
    masked = torch.arange((images.shape[2] // patch) * (images.shape[3] // patch)) % 2 == 0
    return Target(images, images, moved=True, patch=patch, mask=masked.expand(len(images), -1))


def shuffled(images: Tensor, order: list[int], patch: int = 8) -> Tensor:
    patches = torch.cat(images.split(patch, 2), 3).split(patch, 3)
    row = torch.cat([patches[index] for index in order], 3)
    return torch.cat(row.split(images.shape[3], 3), 2)


@pytest.fixture(scope="module")
def photos() -> Tensor:
    return make(Dataset, "photos", {}).load(range(4), 96, 10)[0]


@pytest.fixture(params=["noise", "blur", "dark", "other"])
def found(request: pytest.FixtureRequest, photos: Tensor) -> Tensor:
    return {
        "noise": noisy(photos, 0.1),
        "blur": avg_pool2d(photos, 5, 1, 2),
        "dark": photos * 0.02,
        "other": photos.roll(1, 0),
    }[request.param]


@pytest.mark.parametrize("name", SHELF)
def test_one_finite_number_per_image(name: str) -> None:
    images = smooth(3)
    scores = metric(name).score(noisy(images, 0.1), target(images))
    assert (scores.shape, scores.dtype) == ((3,), torch.float32)
    assert scores.isfinite().all()


# a share of patches changes in steps: test_placed.py
@pytest.mark.parametrize("name", [name for name in SHELF if name != "placed"])
def test_identity_is_best_and_more_noise_is_worse(name: str) -> None:
    images, judge = smooth(4), metric(name)
    sign = 1 if judge.higher_is_better else -1
    better = judge.score(images, target(images))
    for sigma in (0.02, 0.1, 0.5):
        worse = judge.score(noisy(images, sigma), target(images))
        assert (sign * worse < sign * better).all()
        better = worse


@pytest.mark.parametrize("name", SHELF)
def test_identity_scores_its_exact_value(name: str) -> None:
    images, judge = smooth(2), metric(name)
    best = judge.cap or (1.0 if judge.higher_is_better else 0.0)
    assert judge.score(images, target(images)).tolist() == [best, best]


@pytest.mark.parametrize("name", SHELF)
def test_each_image_is_scored_alone(name: str) -> None:
    images, judge = smooth(4), metric(name)
    found = noisy(images, 0.1)
    together = judge.score(found, target(images))
    alone = [judge.score(found[i : i + 1], target(images[i : i + 1])) for i in range(4)]
    turned = judge.score(found.flip(0), target(images.flip(0)))
    torch.testing.assert_close(torch.cat(alone), together)
    torch.testing.assert_close(turned.flip(0), together)


@pytest.mark.parametrize("name", SHELF)
def test_values_outside_the_range_are_clamped(name: str) -> None:
    images, judge = smooth(2), metric(name)
    wild = images + torch.randn(images.shape, generator=Generator().manual_seed(0))
    expected = judge.score(wild.clamp(0, 1), target(images))
    torch.testing.assert_close(judge.score(wild, target(images)), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", SHELF)
def test_says_what_it_is_in_one_line_and_then_its_range_and_unit(name: str) -> None:
    kind = find(Metric, name)
    first, *rest = (kind.__doc__ or "").splitlines()
    assert len(first) <= 80
    [told] = re.findall(r"Range (-?\d+) .*?to (?:about )?(\d+)(?: (dB))?", " ".join(rest))
    unit = "dB" if kind.unit == "dB" else ""
    assert told[2] == unit
    assert kind.cap is None or float(told[1]) == kind.cap


def test_psnr_equals_scikit_image(found: Tensor, photos: Tensor) -> None:
    pairs = zip(photos.double().numpy(), found.double().numpy(), strict=True)
    expected = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in pairs]
    assert metric("psnr").score(found, target(photos)).tolist() == pytest.approx(expected, abs=1e-5)


def test_ssim_equals_scikit_image(found: Tensor, photos: Tensor) -> None:
    pairs = zip(photos.double().numpy(), found.double().numpy(), strict=True)
    pins = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = [structural_similarity(a, b, data_range=1, channel_axis=0, **pins) for a, b in pairs]
    assert metric("ssim").score(found, target(photos)).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def reference() -> lpips.LPIPS:
    with warnings.catch_warnings(action="ignore"):  # torchvision's, about the constructor
        network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    trunk = load((files("privbench.assets") / "alexnet_features.safetensors").read_bytes())
    for part in network.net.children():
        for number, layer in part.named_children():
            layer.load_state_dict({k: trunk[f"features.{number}.{k}"] for k in layer.state_dict()})
    return network


def test_lpips_equals_its_package(found: Tensor, photos: Tensor, reference: lpips.LPIPS) -> None:
    pairs = zip(2 * photos - 1, 2 * found - 1, strict=True)
    expected = [reference(a[None], b[None]).item() for a, b in pairs]
    scores = metric("lpips").score(found, target(photos))
    assert scores.tolist() == pytest.approx(expected, abs=1e-5)


def test_lpips_needs_no_network_and_no_global_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)
    network.cache_clear()
    before = torch.get_rng_state()
    network(torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("mse", [1.0, 0.25, 1e-2, 1e-6])
def test_psnr_of_a_known_error(mse: float) -> None:
    images = torch.zeros(1, 3, 8, 8)
    found = images + mse**0.5
    assert metric("mse").score(found, target(images)).item() == pytest.approx(mse)
    expected = -10 * torch.tensor(mse).log10().item()
    assert metric("psnr").score(found, target(images)).item() == pytest.approx(expected, abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(16)))
def test_matched_psnr_ignores_the_order_of_patches(order: list[int]) -> None:
    images, judge = smooth(1), metric("psnr_matched")
    found = noisy(images, 0.1)
    scores = judge.score(shuffled(found, order), target(images))
    torch.testing.assert_close(scores, judge.score(found, target(images)))
    assert judge.score(shuffled(images, order), target(images)).item() == 100.0


def test_matched_psnr_is_at_least_psnr_and_equals_it_for_one_patch() -> None:
    images = smooth(4)
    found = smooth(4, seed=1)
    plain = metric("psnr").score(found, target(images))
    assert (metric("psnr_matched").score(found, target(images)) > plain).all()
    whole = metric("psnr_matched").score(found, target(images, patch=32))
    torch.testing.assert_close(whole, plain)


def test_fed_psnr_compares_with_what_was_fed() -> None:
    images = smooth(2)
    fed = shuffled(images, list(range(16))[::-1])
    moved = Target(images, fed, moved=True, patch=8)
    judge = metric("psnr_fed")
    assert judge.score(fed, moved).tolist() == [100.0, 100.0]
    assert (judge.score(images, moved) < 30).all()
    assert judge.applies(moved)
    assert not judge.applies(Target(images, images, moved=False, patch=8))


def test_masked_and_unmasked_patches_are_scored_apart() -> None:
    images = smooth(2)
    mask = (torch.arange(16) < 4).expand(2, -1)  # the upper row of patches
    split = Target(images, images, moved=True, patch=8, mask=mask)
    found = images.clone()
    found[:, :, 8:] = noisy(images, 0.1)[:, :, 8:]
    found[:, :, :8] = found[:, :, :8].roll(8, 3)
    assert metric("psnr_masked").score(found, split).tolist() == [100.0, 100.0]
    error = (found - images)[:, :, 8:].square().mean((1, 2, 3))
    torch.testing.assert_close(metric("psnr_unmasked").score(found, split), -10 * error.log10())


@pytest.mark.parametrize("name", ["psnr_masked", "psnr_unmasked"])
def test_parts_are_scored_only_where_there_are_two(name: str) -> None:
    images = smooth(2)
    for mask in (None, torch.zeros(2, 16, dtype=torch.bool), torch.ones(2, 16, dtype=torch.bool)):
        whole = Target(images, images, moved=True, patch=8, mask=mask)
        assert not metric(name).applies(whole)
    assert metric(name).applies(target(images))


@pytest.mark.parametrize(("name", "side"), [("ssim", 11), ("lpips", 31)])
def test_too_small_a_picture_is_left_unscored(name: str, side: int) -> None:
    judge = metric(name)
    assert judge.score(smooth(1, side), target(smooth(1, side, seed=1))).isfinite().all()
    assert judge.applies(target(smooth(1, side)))
    assert not judge.applies(target(smooth(1, side - 1)))


def test_the_trunk_is_the_one_that_records_name() -> None:
    trunk = (files("privbench.assets") / "alexnet_features.safetensors").read_bytes()
    assert hashlib.sha256(trunk).hexdigest() == metric("lpips").weights_sha256
