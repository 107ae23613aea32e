"""Quantization, signs and truncated spectra: against worked arrays and other implementations."""

import numpy as np
import pytest
import torch

from privbench.attack import Attack
from privbench.attacks._update.noise import deviations, quantized
from privbench.component import make
from privbench.defense import Defense
from privbench.errors import BadSetting
from privbench.seeds import generator
from privbench.threat import Update
from privbench.victims.load import load
from tests.conftest import CPU, psnr, quiet


def protect(name, tensor, seed=0, **settings):
    update = Update({"a": tensor})
    return make(Defense, name, settings).protect(update, generator(seed)).tensors["a"]


def some(*shape, seed="some"):
    return torch.randn(shape, generator=generator(seed))


@pytest.mark.parametrize(
    ("bits", "wanted"),
    [
        # 127 sizes up to 12.7: every entry lies on one of them
        (8, [[0.1, -12.7, 0.0, 3.0]]),
        # 3 sizes, 0, 12.7 / 3 and so on: each entry goes to a neighbor
        (3, [[0.0, 12.7 / 3], [-12.7], [0.0], [0.0, 12.7 / 3]]),
        (1, [[-12.7, 12.7], [-12.7], [-12.7, 12.7], [-12.7, 12.7]]),
    ],
)
def test_quantization_of_a_worked_array(bits, wanted):
    array = torch.tensor([0.1, -12.7, 0.0, 3.0])
    for seed in range(20):
        found = protect("quantize", array, seed, bits=bits)
        if bits == 8:
            assert torch.allclose(found, torch.tensor(wanted[0]), atol=1e-6)
        else:
            for value, allowed in zip(found.tolist(), wanted, strict=True):
                assert min(abs(value - one) for one in allowed) < 1e-5


@pytest.mark.parametrize("ends", ["max", "norm"])
@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_quantization_is_right_on_average_and_as_noisy_as_it_must_be(bits, ends):
    array = some(40).expand(2000, 40)
    found = protect("quantize", array, bits=bits, ends=ends)
    end = float(array.abs().max() if ends == "max" else array.norm())
    step = 2 * end if bits == 1 else end / (2 ** (bits - 1) - 1)
    # rounding at random between two levels is a coin whose odds are the place between them
    place = np.mod((array[0].double().numpy() + (end if bits == 1 else 0)) / step, 1)
    variance = torch.from_numpy(step**2 * place * (1 - place))
    error = (found.double().mean(0) - array[0].double()).abs()
    assert (error <= 4.5 * (variance / 2000).sqrt() + 1e-5).all()
    assert float(found.var(0).mean()) == pytest.approx(float(variance.mean()), rel=0.2)
    assert len(found.abs().unique()) <= max(1, 2 ** (bits - 1))


def test_quantization_leaves_zeros_and_an_empty_range_alone():
    assert protect("quantize", torch.zeros(3), bits=1).tolist() == [0, 0, 0]
    assert protect("quantize", torch.tensor([0.0, 1.0]), bits=2).tolist() == [0, 1]


@pytest.mark.parametrize("bits", [0, 9, 16])
def test_more_bits_than_it_has_are_refused(bits):
    with pytest.raises(BadSetting, match=f"quantize: 'bits' cannot be {bits}"):
        make(Defense, "quantize", {"bits": bits})


def test_signs_are_those_of_numpy():
    array = torch.cat([some(50), torch.zeros(2)])
    signs = torch.from_numpy(np.sign(array.numpy()))
    assert torch.equal(protect("sign", array), signs)
    size = float(np.abs(array.numpy()).mean())
    assert torch.allclose(protect("sign", array, scaled=True), size * signs)


@pytest.mark.parametrize("energy", [0.3, 0.9, 0.999])
def test_truncation_is_the_best_of_its_rank_and_the_least_that_suffices(energy):
    kernel = some(12, 3, 2, 2)
    found = protect("svd", kernel, energy=energy).reshape(12, 12)
    matrix = kernel.reshape(12, 12).double()
    # by the eigenvectors of the squares, not by a decomposition of the matrix itself
    values, vectors = np.linalg.eigh((matrix @ matrix.T).numpy())
    rank = next(k for k in range(1, 13) if values[-k:].sum() >= energy * values.sum())
    span = torch.from_numpy(vectors[:, -rank:])
    assert torch.allclose(found.double(), span @ span.T @ matrix, atol=1e-5)
    assert int(torch.linalg.matrix_rank(found, rtol=1e-4)) == rank


@pytest.mark.parametrize("shape", [(7,), (1, 1, 7), (1,), ()])
def test_truncation_leaves_vectors_alone(shape):
    assert torch.equal(protect("svd", some(*shape), energy=0.1), some(*shape))


def test_truncation_at_the_whole_energy_is_none():
    assert torch.allclose(protect("svd", some(1, 9, 6), energy=1.0), some(1, 9, 6), atol=1e-6)
    assert not protect("svd", torch.zeros(3, 3)).any()


@pytest.mark.parametrize("energy", [0, 1.1])
def test_an_energy_that_is_no_share_is_refused(energy):
    with pytest.raises(BadSetting, match="svd: 'energy' cannot be"):
        make(Defense, "svd", {"energy": energy})


@pytest.mark.parametrize(
    ("name", "settings", "kind", "least"),
    [
        ("quantize", {"bits": 8}, "noisy or has gaps as its defense says", 20),
        ("svd", {"energy": 0.9999}, "of low rank", 20),
    ],
)
def test_the_closed_form_reads_off_what_was_done_and_weighs_it(name, settings, kind, least, shared):
    seen, secret = shared(load("vit_vanilla", {}, (make(Defense, name, settings),), "trained", CPU))
    answer = make(Attack, "pe_ls", {}).reconstruct(seen, generator("attack"), quiet)
    assert any(f"The update is {kind}" in one for one in answer.warnings)
    assert answer.images.isfinite().all()
    assert psnr(answer.images, secret.images) > least


def test_an_update_of_few_levels_is_not_taken_for_a_pruned_one():
    token, embedding = some(64, 128), some(128, 48)
    token, embedding = (t - t.mean(d, keepdim=True) for t, d in ((token, 1), (embedding, 0)))
    coarse = [protect("quantize", one, bits=4).double() for one in (token, embedding)]
    assert all(quantized(one) and (one == 0).double().mean() > 0.05 for one in coarse)
    assert not quantized(token)
    first, second, kind = deviations(coarse[0], coarse[1])
    assert kind == "quantized"
    for found, before, after in ((first, token, coarse[0]), (second, embedding, coarse[1])):
        true = float((after - before).square().mean().sqrt())
        assert float(found.mean()) == pytest.approx(true, rel=0.3)
