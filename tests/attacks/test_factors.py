"""Factors of tensors against each other, told by turns that a network does not notice."""

from dataclasses import replace

import pytest
import torch

from privbench.attacks._update.factors import factors
from privbench.attacks._update.reading import mask
from privbench.attacks._update.system import PROJECTION_BIAS
from privbench.attacks.pe_ls import PositionLeastSquares
from privbench.component import make
from privbench.defense import Defense
from privbench.seeds import generator
from privbench.threat import Update
from privbench.victims.load import load
from privbench.vit import ViT
from tests.conftest import CPU, psnr, quiet

MODELS = ["vit_vanilla", "vit_mjp", "vit_sincos", "vit_nope", "vit_shuffle"]
QKV = "backbone.blocks.0.attn.qkv.weight"


def scaled(seen):
    """The same observation with a factor for each tensor, and the factors."""
    names = list(seen.update.tensors)
    drawn = 10 ** (4 * torch.rand(len(names), generator=generator("factors")) - 2)
    each = dict(zip(names, drawn.tolist(), strict=True))
    tensors = {name: each[name] * tensor for name, tensor in seen.update.tensors.items()}
    return replace(seen, update=Update(tensors)), each


def told(seen):
    added = seen.model.penalty_gradient(mask(seen))
    return factors(seen.model.vit, seen.update.tensors, added)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("batch", [1, 2])
def test_factors_of_the_first_tensors_are_told(model, batch, victim, shared):
    seen, each = scaled(shared(victim(model), batch)[0])
    found = told(seen)
    assert {ViT.PROJECTION, PROJECTION_BIAS, QKV} <= found.keys()
    assert (ViT.POSITIONS in found) == (ViT.POSITIONS in seen.update.tensors)
    for name in found.keys() & {ViT.PROJECTION, PROJECTION_BIAS, QKV, ViT.POSITIONS}:
        ratio = found[name] * each[name] / each[ViT.PROJECTION]
        assert ratio == pytest.approx(1, abs=1e-4), name


def test_nothing_is_told_of_noise(victim, shared):
    seen, _ = shared(victim("vit_vanilla"))
    tensors = {
        name: torch.randn(tensor.shape, generator=generator(name))
        for name, tensor in seen.update.tensors.items()
    }
    assert told(replace(seen, update=Update(tensors))) == {}


def test_nothing_is_told_where_a_reader_is_withheld(victim, shared):
    seen, _ = shared(victim("vit_vanilla"))
    rest = {name: tensor for name, tensor in seen.update.tensors.items() if name != QKV}
    assert told(replace(seen, update=Update(rest))) == {}


@pytest.mark.parametrize(("ratio", "least"), [(0.0, 75), (0.1, 25), (0.5, 7)])
def test_clipping_by_tensor_hides_no_picture(ratio, least, shared):
    clip = make(Defense, "clip", {"norm": 1e-3, "of": "tensor"})
    parts = (clip, make(Defense, "prune", {"ratio": ratio})) if ratio else (clip,)
    seen, secret = shared(load("vit_vanilla", {"depth": 2}, parts, "init", CPU))
    answer = PositionLeastSquares().reconstruct(seen, generator("test"), quiet)
    assert psnr(answer.images, secret.fed) > least
    guessed = any("Each tensor was scaled by itself" in one for one in answer.warnings)
    assert guessed == (ratio == 0.5)
